# Every task of the project. `make up` and `make test` do all set-up by themselves.
SHELL := /bin/bash
VENV  := .venv
BIN   := $(VENV)/bin
PY    := $(BIN)/python

.PHONY: protos format

protos: ## regenerate the stubs of protos/allsorts/v1
	$(PY) -m grpc_tools.protoc -I . --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. protos/allsorts/v1/*.proto

format: ## format all code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
