"""Pipelines, versions, experiments, runs and recurring runs in memory, and what Kubeflow's API does with them."""

from __future__ import annotations

import copy
import uuid
from datetime import UTC, datetime, timedelta

from tests.fakes.kubeflow_api import Refused, Request
from tests.fakes.kubeflow_checks import check_inputs, check_trigger, due, pipeline_name, read_spec, read_tags
from tests.fakes.kubeflow_lists import Row, page
from tests.fakes.kubeflow_workflows import Workflow

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
NAMES = ("name", "display_name", "created_at", "description", "namespace")
KEYS = {
    "pipelines": ("id", "pipeline_id", *NAMES),
    "versions": ("id", "pipeline_version_id", *NAMES),
    "experiments": ("id", "experiment_id", "storage_state", "last_run_created_at", *NAMES),
    "runs": ("id", "run_id", "experiment_id", "scheduled_at", "finished_at", "state", "storage_state", *NAMES),
    "recurring": ("id", "recurring_run_id", "experiment_id", "updated_at", "status", *NAMES),
}


class Objects:
    """What the server holds. Every method named as an operation of the API answers it."""

    def __init__(self, multi_user: bool) -> None:
        self.multi_user = multi_user
        self.pipelines: dict[str, Row] = {}
        self.versions: dict[str, Row] = {}
        self.experiments: dict[str, Row] = {}
        self.runs: dict[str, Row] = {}
        self.recurring: dict[str, Row] = {}
        self.workflows: dict[str, Workflow] = {}
        self.time = datetime.now(UTC).replace(microsecond=0)
        self._in_namespace: dict[str, str] = {}  # of a run: its rows do not say

    def now(self) -> str:
        """A second later than the last time anybody asked: the server's own times have whole seconds."""
        self.time = max(self.time + timedelta(seconds=1), datetime.now(UTC).replace(microsecond=0))
        return self.time.strftime("%Y-%m-%dT%H:%M:%SZ")

    def HealthzService_GetHealthz(self, request: Request) -> Row:
        return {"multi_user": self.multi_user, "pipeline_store": "database"}

    # pipelines

    def PipelineService_CreatePipeline(self, request: Request) -> Row:
        return self.new_pipeline(request.body)

    def PipelineService_ListPipelines(self, request: Request) -> Row:
        rows = [row for row in self.pipelines.values() if row.get("namespace", "") == self._namespace(request.query)]
        found, about = page(rows, request.query, KEYS["pipelines"], "pipeline_id")
        return {"pipelines": found, **about} if found else about

    def PipelineService_GetPipeline(self, request: Request) -> Row:
        return self._find(self.pipelines, request.arguments["pipeline_id"], "pipeline")

    def PipelineService_GetPipelineByName(self, request: Request) -> Row:
        name = request.arguments["name"]
        for row in self.pipelines.values():
            if row["name"] == name and row.get("namespace", "") == self._namespace(request.query):
                return row
        raise Refused(404, f"Failed to get pipeline by name and namespace: ResourceNotFoundError: Pipeline {name}")

    def PipelineService_DeletePipeline(self, request: Request) -> Row:
        found = self.PipelineService_GetPipeline(request)["pipeline_id"]
        own = [key for key, version in self.versions.items() if version["pipeline_id"] == found]
        if own and request.query.get("cascade") != "true":
            raise Refused(400, f"Failed to delete pipeline {found}: it has {len(own)} versions; use cascade")
        for key in own:
            del self.versions[key]
        del self.pipelines[found]
        return {}

    def UploadPipeline(self, request: Request) -> Row:
        text = read_spec(request.upload)
        names = {key: request.query[key] for key in ("name", "display_name", "description") if key in request.query}
        namespace = {"namespace": request.query["namespace"]} if "namespace" in request.query else {}
        made = self.new_pipeline({"name": pipeline_name(text), **names, **namespace, **read_tags(request.query)})
        self.new_version(made["pipeline_id"], {"name": made["name"]}, text)
        return made

    def UploadPipelineVersion(self, request: Request) -> Row:
        text = read_spec(request.upload)
        owner = request.query.get("pipelineid", "")
        if not owner:
            raise Refused(400, "Invalid input error: Please specify a pipeline id when creating versions.")
        self._find(self.pipelines, owner, "pipeline")
        names = {key: request.query[key] for key in ("name", "display_name", "description") if key in request.query}
        return self.new_version(owner, {**names, **read_tags(request.query)}, text)

    def PipelineService_ListPipelineVersions(self, request: Request) -> Row:
        self._find(self.pipelines, request.arguments["pipeline_id"], "pipeline")
        rows = [row for row in self.versions.values() if row["pipeline_id"] == request.arguments["pipeline_id"]]
        found, about = page(rows, request.query, KEYS["versions"], "pipeline_version_id")
        return {"pipeline_versions": found, **about} if found else about

    def PipelineService_GetPipelineVersion(self, request: Request) -> Row:
        return self._version(**request.arguments)

    def PipelineService_DeletePipelineVersion(self, request: Request) -> Row:
        self._version(**request.arguments)
        del self.versions[request.arguments["pipeline_version_id"]]
        return {}

    # experiments

    def ExperimentService_CreateExperiment(self, request: Request) -> Row:
        namespace = self._namespace(request.body)
        name = request.body.get("display_name", "")
        if not name:
            raise Refused(400, "Invalid input error: Experiment name is empty. Please specify a valid experiment name.")
        if any((e["display_name"], e.get("namespace", "")) == (name, namespace) for e in self.experiments.values()):
            raise Refused(
                409, f"Already exist error: Failed to create a new experiment. The name {name} already exists"
            )
        key = str(uuid.uuid4())
        about = {"namespace": namespace} if namespace else {}
        times = {"created_at": self.now(), "last_run_created_at": "1970-01-01T00:00:00Z"}
        self.experiments[key] = {
            "experiment_id": key,
            "display_name": name,
            "storage_state": "AVAILABLE",
            **times,
            **about,
            **({"description": request.body["description"]} if request.body.get("description") else {}),
        }
        return self.experiments[key]

    def ExperimentService_ListExperiments(self, request: Request) -> Row:
        rows = [row for row in self.experiments.values() if row.get("namespace", "") == self._namespace(request.query)]
        found, about = page(rows, request.query, KEYS["experiments"], "experiment_id")
        return {"experiments": found, **about} if found else about

    def ExperimentService_GetExperiment(self, request: Request) -> Row:
        return self._find(self.experiments, request.arguments["experiment_id"], "experiment")

    def ExperimentService_ArchiveExperiment(self, request: Request) -> Row:
        self.ExperimentService_GetExperiment(request)["storage_state"] = "ARCHIVED"
        return {}

    def ExperimentService_UnarchiveExperiment(self, request: Request) -> Row:
        self.ExperimentService_GetExperiment(request)["storage_state"] = "AVAILABLE"
        return {}

    def ExperimentService_DeleteExperiment(self, request: Request) -> Row:
        del self.experiments[self.ExperimentService_GetExperiment(request)["experiment_id"]]
        return {}

    # runs

    def RunService_CreateRun(self, request: Request) -> Row:
        return {**self.new_run(request.body, "run"), "state": "PENDING"}  # and then for some seconds no state at all

    def RunService_ListRuns(self, request: Request) -> Row:
        wanted = request.query.get("experiment_id", "")
        namespace = "" if wanted else self._namespace(request.query)
        rows = [
            {**row, "name": row["display_name"]}
            for key, row in self.runs.items()
            if (row["experiment_id"] == wanted if wanted else self._in_namespace[key] == namespace)
        ]
        found, about = page(rows, request.query, KEYS["runs"], "run_id")
        shown = [{key: value for key, value in row.items() if key != "name"} for row in found]
        return {"runs": shown, **about} if shown else about

    def RunService_GetRun(self, request: Request) -> Row:
        run = self._run(request)
        shown = copy.deepcopy(run)
        workflow = self.workflows.get(run["run_id"])
        if workflow:
            shown["run_details"] = {"task_details": workflow.tasks(run["run_id"])}
        if run.get("state") == "CANCELING":
            self.state(run["run_id"], "FAILED")  # never CANCELED
            if workflow:
                workflow.end(self.now())
        return shown

    def RunService_TerminateRun(self, request: Request) -> Row:
        run = self._run(request)
        if run.get("state") in ENDED:
            raise Refused(400, f"Failed to terminate a run: Invalid input error: Row not found for {run['run_id']}")
        self.state(run["run_id"], "CANCELING")
        return {}

    def RunService_RetryRun(self, request: Request) -> Row:
        run = self._run(request)
        if run.get("state") not in ("FAILED", "CANCELED"):
            raise Refused(400, "Failed to retry a run: Only failed/error runs can be retried")
        self.state(run["run_id"], "RUNNING")
        return {}

    def RunService_ArchiveRun(self, request: Request) -> Row:
        self._run(request)["storage_state"] = "ARCHIVED"
        return {}

    def RunService_UnarchiveRun(self, request: Request) -> Row:
        self._run(request)["storage_state"] = "AVAILABLE"
        return {}

    def RunService_DeleteRun(self, request: Request) -> Row:
        del self.runs[self._run(request)["run_id"]]
        return {}

    # recurring runs

    def RecurringRunService_CreateRecurringRun(self, request: Request) -> Row:
        body = copy.deepcopy(request.body)
        check_trigger(body.get("trigger", {}))
        self._check_work(body, latest_allowed=True)
        experiment = self._experiment_of(body)
        key, now = str(uuid.uuid4()), self.now()
        mode = body.pop("mode", "MODE_UNSPECIFIED")
        if mode == "MODE_UNSPECIFIED":
            raise Refused(400, "Invalid input error: Unrecognized recurring run mode: MODE_UNSPECIFIED")
        for schedule in body["trigger"].values():
            if "interval_second" in schedule:
                schedule["interval_second"] = str(schedule["interval_second"])
        asked = int(body.pop("max_concurrency", 1))
        self.recurring[key] = {
            **body,
            "recurring_run_id": key,
            "experiment_id": experiment["experiment_id"],
            "max_concurrency": str(min(max(asked, 1), 10)),
            "no_catchup": body.get("no_catchup", False),
            "mode": mode,
            "status": f"{mode}D",
            "created_at": now,
            "updated_at": now,
            **({"namespace": experiment["namespace"]} if "namespace" in experiment else {}),
        }
        return self.recurring[key]

    def RecurringRunService_ListRecurringRuns(self, request: Request) -> Row:
        wanted = request.query.get("experiment_id", "")
        namespace = "" if wanted else self._namespace(request.query)
        rows = [
            row
            for row in self.recurring.values()
            if (row["experiment_id"] == wanted if wanted else row.get("namespace", "") == namespace)
        ]
        found, about = page(rows, request.query, KEYS["recurring"], "recurring_run_id")
        return {"recurringRuns": found, **about} if found else about

    def RecurringRunService_GetRecurringRun(self, request: Request) -> Row:
        return self._find(self.recurring, request.arguments["recurring_run_id"], "job")

    def RecurringRunService_EnableRecurringRun(self, request: Request) -> Row:
        about = {"mode": "ENABLE", "status": "ENABLED", "updated_at": self.now()}
        row = self.RecurringRunService_GetRecurringRun(request)
        row.update(about)
        runs = [
            run["created_at"] for run in self.runs.values() if run.get("recurring_run_id") == row["recurring_run_id"]
        ]
        since = datetime.fromisoformat(max([row["created_at"], *runs]))
        if due(row["trigger"], since, self.time):  # missed while it was off: no_catchup does not keep it from that
            self.fire(row["recurring_run_id"])
        return {}

    def RecurringRunService_DisableRecurringRun(self, request: Request) -> Row:
        about = {"mode": "DISABLE", "status": "DISABLED", "updated_at": self.now()}
        self.RecurringRunService_GetRecurringRun(request).update(about)
        return {}

    def RecurringRunService_DeleteRecurringRun(self, request: Request) -> Row:
        del self.recurring[self.RecurringRunService_GetRecurringRun(request)["recurring_run_id"]]
        return {}

    # what both the API and a test do

    def fire(self, recurring_run_id: str) -> str:
        """The schedule comes due: the id of the run, empty where it is disabled or its own runs are in the way."""
        with self.changed:
            schedule = self.recurring[recurring_run_id]
            own = [run for run in self.runs.values() if run.get("recurring_run_id") == recurring_run_id]
            active = sum(run.get("state") not in ENDED for run in own)
            if schedule["status"] != "ENABLED" or active >= int(schedule["max_concurrency"]):
                return ""
            work = ("pipeline_version_reference", "pipeline_spec", "runtime_config", "service_account", "experiment_id")
            body = {name: schedule[name] for name in work if name in schedule}
            body["display_name"] = f"{schedule['display_name']}-{len(own) + 1}"
            run = self.new_run(body, "run")
            run["recurring_run_id"] = recurring_run_id
            return str(run["run_id"])

    def state(self, run_id: str, state: str) -> None:
        """The run is in this state now; Kubeflow never says why."""
        run, now = self.runs[run_id], self.now()
        run["state"] = state
        run["state_history"].append({"update_time": now, "state": state})
        if state in ENDED:
            run["finished_at"] = now

    def new_run(self, body: Row, kind: str) -> Row:
        """A run of a version (the newest, if none is named) or of a package."""
        if not body.get("display_name"):
            raise Refused(400, "Invalid input error: The run name is empty. Please specify a valid name.")
        version = self._check_work(body, latest_allowed=True)
        experiment = self._experiment_of(body)
        key, now = str(uuid.uuid4()), self.now()
        run = {name: copy.deepcopy(value) for name, value in body.items() if name != "pipeline_version_reference"}
        if version:
            own = {name: version[name] for name in ("pipeline_id", "pipeline_version_id")}
            run["pipeline_version_reference"] = own
        run |= {
            "run_id": key,
            "experiment_id": experiment["experiment_id"],
            "storage_state": "AVAILABLE",
            "created_at": now,
            "scheduled_at": now,
            "finished_at": "1970-01-01T00:00:00Z",
            "state_history": [{"update_time": now, "state": "PENDING"}, {"update_time": now}],
            "service_account": body.get("service_account") or "pipeline-runner",
        }
        experiment["last_run_created_at"] = now
        self.runs[key], self._in_namespace[key] = run, experiment.get("namespace", "")
        return run

    def new_pipeline(self, body: Row) -> Row:
        """A pipeline without versions."""
        namespace = self._namespace(body)
        name = body.get("name") or body.get("display_name", "")
        if not name:
            raise Refused(400, "Invalid input error: pipeline's name cannot be empty")
        if any((row["name"], row.get("namespace", "")) == (name, namespace) for row in self.pipelines.values()):
            raise Refused(
                409,
                f"Failed to create a pipeline: Already exist error: The name {name} already exists. "
                "Please specify a new name.",
            )
        key = str(uuid.uuid4())
        about = {field: body[field] for field in ("description", "tags") if body.get(field)}
        about |= {"namespace": namespace} if namespace else {}
        names = {"name": name, "display_name": body.get("display_name") or name}
        self.pipelines[key] = {"pipeline_id": key, **names, "created_at": self.now(), **about}
        return self.pipelines[key]

    def new_version(self, owner: str, body: Row, text: Row) -> Row:
        """A version of a pipeline."""
        name = body.get("name") or body.get("display_name", "")
        if not name:
            raise Refused(400, "Invalid input error: pipeline version's name cannot be empty")
        if any((row["pipeline_id"], row["name"]) == (owner, name) for row in self.versions.values()):
            raise Refused(
                409,
                f"Failed to create a pipeline version: Already exist error: The name {name} already exists. "
                "Please specify a new name.",
            )
        key = str(uuid.uuid4())
        own = {"pipeline_id": owner, "pipeline_version_id": key, "display_name": name, "name": name}
        self.versions[key] = {**own, **body, "created_at": self.now(), "pipeline_spec": text}
        return self.versions[key]

    def _find(self, rows: dict[str, Row], key: str, kind: str) -> Row:
        if key not in rows:
            message = f"Failed to fetch {kind} {key}: ResourceNotFoundError: {kind} {key} not found."
            raise Refused(404, message)
        return rows[key]

    def _version(self, pipeline_id: str, pipeline_version_id: str) -> Row:
        found = self._find(self.versions, pipeline_version_id, "pipeline version")
        return found if found["pipeline_id"] == pipeline_id else self._find({}, pipeline_version_id, "pipeline version")

    def _run(self, request: Request) -> Row:
        return self._find(self.runs, request.arguments["run_id"], "run")

    def _namespace(self, said: Row) -> str:
        """The namespace meant: none where there is only one user, some where there are several."""
        if not self.multi_user:
            return ""
        if not said.get("namespace"):
            raise Refused(400, "Invalid input error: A namespace cannot be empty in multi-user mode.")
        return str(said["namespace"])

    def _experiment_of(self, body: Row) -> Row:
        if body.get("experiment_id"):
            return self._find(self.experiments, body["experiment_id"], "experiment")
        if self.multi_user:
            raise Refused(400, "Invalid input error: Job has an empty experiment ID in multi-user mode.")
        for experiment in self.experiments.values():
            if experiment["display_name"] == "Default":
                return experiment
        request = Request("POST", "", {}, {}, {"display_name": "Default"})
        return self.ExperimentService_CreateExperiment(request)

    def _check_work(self, body: Row, *, latest_allowed: bool) -> Row | None:
        """The version that is to run, None for a package. Refuses inputs the pipeline does not take."""
        reference = body.get("pipeline_version_reference")
        if bool(reference) == bool(body.get("pipeline_spec")):
            raise Refused(400, "Invalid input error: Either pipeline version reference or pipeline spec is required.")
        version: Row | None = None
        spec = body.get("pipeline_spec")
        if reference:
            owner = self._find(self.pipelines, reference.get("pipeline_id", ""), "pipeline")["pipeline_id"]
            if reference.get("pipeline_version_id"):
                version = self._version(owner, reference["pipeline_version_id"])
            else:
                own = [row for row in self.versions.values() if row["pipeline_id"] == owner]
                if not own:
                    raise Refused(404, f"Failed to get the latest pipeline version: pipeline {owner} has no versions")
                version = max(own, key=lambda row: row["created_at"])
            spec = version["pipeline_spec"]
        check_inputs(spec, body.get("runtime_config", {}).get("parameters", {}))
        return version
