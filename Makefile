# One command each. The environment is .venv; every target makes it first when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= $(or $(VIGIE_DATA),../shared/data)

.PHONY: setup ansible run test rigs rig-arm64 rig-power-cut lint bench eval train smoke bundle clean lock
.DEFAULT_GOAL := help

help: ## Say what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.done ## Make the environment from the locked packages

$(VENV)/.done: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 10) <= v < (3, 13) else f"vigie needs Python 3.10 to 3.12, this is {v.major}.{v.minor}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	touch $@

ansible: $(VENV)/ansible/.done ## Make the environment of the playbooks, apart from the agent's (docs/integrator.md)

$(VENV)/ansible/.done: requirements-ansible.txt $(VENV)/.done
	$(PYTHON) -m venv $(VENV)/ansible
	$(VENV)/ansible/bin/python -m pip install --require-hashes -r requirements-ansible.txt
	touch $@

$(VENV)/.eval: $(VENV)/.done requirements-eval.txt
	$(BIN)/python -m pip install --require-hashes --no-deps -r requirements-eval.txt
	touch $@

$(VENV)/.train: $(VENV)/.done requirements-train.txt
	$(BIN)/python -m pip install -r requirements-train.txt
	touch $@

run: setup ## Run the agent on a real clip with a broker of its own (SOURCE= MIC= BROKER= CONFIG=)
	@$(BIN)/vigie demo $(if $(SOURCE),--source '$(SOURCE)') $(if $(MIC),--mic '$(MIC)') $(if $(BROKER),--broker '$(BROKER)') $(if $(CONFIG),--config '$(CONFIG)')

test: setup ## Run the tests that need nothing but this checkout
	$(BIN)/python -m pytest -m "not rig" -n auto --dist loadfile

rigs: setup ansible ## Run the tests against real brokers, cameras and sound servers (tests/rigs/README.md)
	$(BIN)/python -m pytest -m "rig and not long and not emulated and not alone" -n auto --dist loadfile
	$(BIN)/python -m pytest -m "rig and alone"

rigs-long: setup ansible ## Run the rigs of updates and playbooks (root)
	$(BIN)/python -m pytest -m "rig and long"

rig-arm64: setup ## Install and try the aarch64 release under emulation; a quarter of an hour (root, qemu-user-static)
	$(BIN)/python -m pytest tests/rigs/test_arm64.py

rig-power-cut: setup ## Cut the power of an emulated machine in the midst of updates (root, qemu-system-x86)
	$(BIN)/python -m pytest tests/rigs/test_power_cut.py

lint: setup ansible ## Check style, types and the walls between the parts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd ansible && PATH="$(abspath $(VENV)/ansible/bin):$$PATH" ansible-lint

bench: setup ## Measure speed as a ratio to a reference run beside it
	$(BIN)/vigie bench pipeline
	$(BIN)/vigie bench inference
	$(BIN)/vigie bench behaviours
	$(BIN)/vigie bench sound

eval: $(VENV)/.eval ## Measure accuracy on the labelled data ($(DATA))
	$(BIN)/vigie eval events --labels $(DATA)/labels.json --clips $(DATA)/clips
	$(BIN)/vigie eval simulated --data $(DATA) --out docs/behaviours.md
	$(BIN)/vigie eval counting --clip $(DATA)/clips/pets2009_s2l1.mp4 --gt $(DATA)/mot/PETS09-S2L1/gt.txt
	$(BIN)/vigie eval tracker --mot $(DATA)/mot --beside
	$(BIN)/vigie eval detector --images $(DATA)/person/val --model vigie-detector --model yolox-nano --model fastestdet
	$(BIN)/vigie eval detector --images $(DATA)/street --model vigie-detector --model yolox-nano --model fastestdet
	$(BIN)/vigie eval detector --clip $(DATA)/clips/pets2009_s2l1.mp4 --gt $(DATA)/mot/PETS09-S2L1/gt.txt --model vigie-detector --model yolox-nano
	$(BIN)/vigie eval patch --data $(DATA)
	$(BIN)/vigie eval sound --audio $(DATA)/audio
	$(BIN)/vigie eval locate --devices 3 --devices 4 --devices 6 --devices 8

train: $(VENV)/.train ## Make the models anew; hours, resumable (MODEL=detector|sound|patch)
	$(if $(MODEL),,$(error which one? make train MODEL=detector, sound or patch))
	$(BIN)/python -m models.train.$(MODEL)

smoke: $(VENV)/.train ## Check the recipes: types, tests, and a short training of each whose loss must fall
	$(BIN)/mypy models/train tests/models/*.py
	$(BIN)/python -m pytest tests/models
	@if [ -d $(DATA)/person ]; then for model in detector sound patch; do $(BIN)/python -m models.train.$$model --smoke || exit; done; else echo "no shared data in $(DATA): the recipes were not run"; fi

bundle: setup ## Build a signed release (TARGET=jetpack6|jetpack7|x86_64 KEY=release.key, FOR_PYTHON=3.11 OUT=dist)
	$(if $(and $(TARGET),$(KEY)),,$(error which one, and signed by whom? make bundle TARGET=jetpack6 KEY=release.key))
	@$(BIN)/python -m deploy.bundle --target $(TARGET) --key $(KEY) $(if $(FOR_PYTHON),--python $(FOR_PYTHON)) $(if $(OUT),--out $(OUT))

lock: ## Lock the dependencies again, with hashes (needs uv)
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate pyproject.toml --extra dev --extra demo -c requirements.txt -o requirements-dev.txt
	echo 'opencv-python; python_version < "0"' | uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate pyproject.toml --extra eval --override - -c requirements-dev.txt -o requirements-eval.txt
	printf 'ansible-core>=2.17\nansible-lint>=25\n' | uv pip compile -q --universal --python-version 3.10 --generate-hashes --no-header --no-annotate - -o requirements-ansible.txt
	cp requirements.txt requirements-jetpack6.txt # what stands there already is preferred
	cp requirements.txt requirements-jetpack7.txt
	echo 'numpy<2' | uv pip compile -q --only-binary :all: --python-version 3.10 --python-platform aarch64-manylinux_2_35 --generate-hashes --no-header --no-annotate pyproject.toml -c - -o requirements-jetpack6.txt
	uv pip compile -q --only-binary :all: --python-version 3.12 --python-platform aarch64-manylinux_2_39 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements-jetpack7.txt
	echo pip | uv pip compile -q --only-binary :all: --python-version 3.10 --generate-hashes --no-header --no-annotate - -o deploy/bundle/pip.txt

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
