"""The command line answers quickly, says what is wrong with flags, and keeps stdout for results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hqclip import __version__, cli
from hqclip.errors import EXIT_CODES, ConfigError, DataError
from hqclip.stages import STAGES
from hqclip.task import numbers, run_first, run_named, run_planned

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "pyarrow", "kfp", "google", "numpy", "PIL", "transformers", "open_clip", "rich", "google_crc32c"}
NEEDED = {  # the least that a verb must be told
    "plan": ["--store", "s", "--shards", "x", "--suite", "y"],
    "train": ["--store", "s", "--dataset", "d", "--run", "r"],
    "demo world": ["--store", "s"],
}


def hqclip(*words: str) -> subprocess.CompletedProcess[str]:
    """The program itself, as a shell would start it."""
    command = [sys.executable, "-m", "hqclip.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=600)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run in this process: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.main(words)
        return (code, *capsys.readouterr())

    return run


def test_help_answers_without_loading_what_only_work_needs() -> None:
    probe = (
        "import sys; from hqclip import cli; cli.main(['--help'])\n"
        "try: cli.main(['train', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "hqclip" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_every_verb(
    name: str,
    golden: Callable[[str, str], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as end:
        cli.main([*name.split(), "--help"])
    assert end.value.code == 0
    golden(f"help/{name.replace(' ', '-')}.txt", capsys.readouterr().out)


def test_the_overview(golden: Callable[[str, str], None], said: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = said("--help")
    assert (code, err) == (0, "")
    assert said() == said("-h") == said("demo") == said("demo", "--help") == (0, out, "")
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    assert all(f"\n  {code} " in out for code in EXIT_CODES)
    golden("help/hqclip.txt", out)


def test_the_version_is_printed_alone(said: Callable[..., tuple[int, str, str]]) -> None:
    assert said("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trian"], "hqclip trian: unknown command 'trian'; did you mean 'train'?"),
        (["demo", "wrld"], "hqclip demo wrld: unknown command 'demo wrld'; did you mean 'demo world'?"),
        (["train", *NEEDED["train"], "--batchsize", "8"], "unknown flag '--batchsize'; did you mean '--batch-size'?"),
        (["train", *NEEDED["train"], "--batchsize=8"], "unknown flag '--batchsize=8'; did you mean '--batch-size'?"),
        (["train", *NEEDED["train"], "--batch", "8"], "unknown flag '--batch'"),
        (["train", *NEEDED["train"], "stray"], "unknown flag 'stray'"),
        (["train", *NEEDED["train"], "--seed"], "argument --seed: expected one argument"),
        (["train", *NEEDED["train"], "--seed", "one"], "seed must be a number, got 'one'"),
        (["train", *NEEDED["train"], "--seed", "-1"], "seed is -1; give 0 or more"),
        (["train", *NEEDED["train"], "--precision", "bf61"], "give one of bf16, fp32; did you mean 'bf16'?"),
    ],
)
def test_a_wrong_word_is_named_with_what_was_meant(
    words: list[str], reason: str, said: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = said(*words)
    assert (code, out) == (64, "")
    assert reason in err


def test_every_missing_flag_is_listed_with_what_it_is(said: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = said("plan", "--cycle", "-2")
    assert code == 64
    assert [line.split(":")[0] for line in err.removeprefix("hqclip plan: ").splitlines()] == [
        "cycle is -2; give 0 or more",
        "store is missing",
        "shards is missing",
    ]


def test_a_fault_ends_the_program_with_its_code_and_no_traceback(tmp_path: Path) -> None:
    done = hqclip("demo", "world", "--store", str(tmp_path), "--images", "0")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == "hqclip demo world: images is 0; give 1 or more\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> dict[str, object]:
        raise ZeroDivisionError

    monkeypatch.setitem(cli.COMMANDS, "demo world", cli.Command(cli.DemoWorldConfig, broken))
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo", "world", "--store", "s"])


@pytest.mark.parametrize("name", NEEDED)
def test_a_dry_run_prints_what_the_settings_are_and_does_nothing(name: str, tmp_path: Path) -> None:
    words = [*name.split(), *NEEDED[name], "--dry-run", "--store", f"{tmp_path}/größe"]
    done = hqclip(*words)
    assert (done.returncode, done.stderr) == (0, "")
    settings = json.loads(done.stdout)
    assert settings["store"] == f"{tmp_path}/größe"
    assert cli.COMMANDS[name].settings.from_mapping(settings).to_mapping() == settings
    assert list(tmp_path.iterdir()) == []


def test_a_list_is_given_with_commas_or_as_json(said: Callable[..., tuple[int, str, str]]) -> None:
    commas = json.loads(said("plan", *NEEDED["plan"], "--dry-run", "--trials", "raw,hqclip")[1])
    quoted = json.loads(said("plan", *NEEDED["plan"], "--dry-run", "--trials", '["raw", "hqclip"]')[1])
    assert commas["trials"] == quoted["trials"] == ["raw", "hqclip"]


def test_an_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, said: Callable[..., tuple[int, str, str]]
) -> None:
    def interrupted(_: object) -> dict[str, object]:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "demo world", cli.Command(cli.DemoWorldConfig, interrupted))
    code, out, err = said("demo", "world", "--store", "s")
    assert (code, out) == (130, "")
    assert "the same command continues" in err


def test_numbers_are_flat_and_leave_out_what_is_no_measurement() -> None:
    result = {
        "rows": 12,
        "average": 0.5,
        "model": "runs/x",
        "already_done": True,
        "statuses": {"ok": 11, "not_json": 1},
        "benchmarks": {"retrieval": {"image to text": 0.25}},
        "settings": {"train": {"seed": 3}},
        "trials": {"raw": 1},
        "interval": (0.1, 0.2),
        "parent": None,
    }
    assert numbers(result) == {
        "rows": 12.0,
        "average": 0.5,
        "statuses_ok": 11.0,
        "statuses_not_json": 1.0,
        "benchmarks_retrieval_image_to_text": 0.25,
    }


@pytest.fixture
def kettle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`evaluate` and `promote` are played by a module that returns its settings; a batch of 13 is a data fault."""
    (tmp_path / "kettle.py").write_text(
        "from hqclip.errors import DataError\n"
        "def run(settings):\n"
        "    if getattr(settings, 'batch_size', 0) == 13:\n"
        "        raise DataError('the water is salt')\n"
        "    return {**settings.to_mapping(), 'report': 'page.html'}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("evaluate", "promote", "train"):
        monkeypatch.setitem(STAGES, name, type(STAGES[name])("kettle", STAGES[name].settings))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "page.html").write_text("<p>done</p>")
    return tmp_path


def test_a_stage_in_a_pipeline_leaves_its_result_its_metrics_and_its_page(kettle: Path) -> None:
    metrics: dict[str, float] = {}
    given = {"store": str(kettle / "store"), "model": "m", "suite": "u", "batch_size": 8.0}
    result = run_named(
        "evaluate", given, write_to=f"{kettle}/out/result", log=metrics.__setitem__, page=f"{kettle}/out/page"
    )
    assert json.loads((kettle / "out/result").read_text()) == result
    assert (metrics["batch_size"], (kettle / "out/page").read_text()) == (8.0, "<p>done</p>")


def test_a_first_task_hands_on_those_of_its_arguments_that_are_settings(kettle: Path) -> None:
    def component(store: str, model: str, suite: str, batch_size: int, requested: object) -> dict:
        return run_first("evaluate", locals(), write_to=f"{kettle}/result")

    assert component(str(kettle / "store"), "m", "u", 8, requested=kettle)["batch_size"] == 8


@pytest.mark.parametrize(
    ("given", "fault", "message"),
    [
        ({"batch_size": 13}, DataError, "hqclip evaluate: the water is salt\n"),
        ({"batch_size": 0}, ConfigError, "hqclip evaluate: evaluate.batch_size is 0; give 1 or more\n"),
    ],
)
def test_a_fault_in_a_pipeline_ends_the_task_with_its_code_and_no_result(
    kettle: Path, capsys: pytest.CaptureFixture[str], given: dict, fault: type, message: str
) -> None:
    given = {"store": str(kettle / "store"), "model": "m", "suite": "u", **given}
    with pytest.raises(SystemExit) as end:
        run_named("evaluate", given, write_to=f"{kettle}/result")
    assert end.value.code == fault.exit_code
    assert capsys.readouterr().err == message
    assert not (kettle / "result").exists()


def test_a_planned_stage_takes_its_settings_from_the_plan_and_from_what_came_before(kettle: Path) -> None:
    def file(name: str, content: object) -> str:
        (kettle / name).write_text(json.dumps(content))
        return str(kettle / name)

    store = str(kettle / "store")
    train = {"store": store, "dataset": "-", "learning_rate": 0.1, "seed": 1}
    promote = {"store": store, "plan": "cycles/000003.plan.json", "margin": 0.25}
    settings = {"train": train, "promote": promote}
    where = {"runs": "000003-", "notes": "cycles/000003.stages/", "machines": {}}
    plan = file("plan", {"settings": settings, **where})
    curated = file("curated", {"dataset": "datasets/x/dataset.json", "rows": 5})
    trial = {"name": "raw", "settings": {"learning_rate": 0.2}}
    trained = run_planned("train", plan, [curated], trial=trial, write_to=file("t", 0))
    assert (trained["run"], trained["dataset"]) == ("000003-raw", "datasets/x/dataset.json")
    assert (trained["learning_rate"], trained["seed"]) == (0.2, 1)

    judged = [file(f"e{number}", {"evaluation": f"evaluations/{number}", "model": "m"}) for number in range(2)]
    promoted = run_planned("promote", plan, [curated, *judged], write_to=file("p", 0))
    assert (promoted["evaluations"], promoted["margin"]) == (["evaluations/0", "evaluations/1"], 0.25)
    kept = Path(f"{store}/cycles/000003.stages").glob("*.json")
    assert {path.name for path in kept} == {"train-raw.json", "promote.json"}

    again = run_planned("promote", plan, [curated, judged[0]], write_to=file("p", 0))
    assert again["evaluations"] == ["evaluations/0"]
    remembered = json.loads(Path(f"{store}/cycles/000003.stages/promote.json").read_text())
    assert remembered["evaluations"] == ["evaluations/0", "evaluations/1"], "the first word counts"
