PYTHON ?= python3

.PHONY: test
test:
	$(PYTHON) -m unittest discover -s tests/unit -t . -v
