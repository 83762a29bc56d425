# Prices and capabilities: handler/catalogue.json, baked from what two packages publish. They are read, not run, so that
# neither they nor their dependencies are ours. After `make lock-catalogue`, say on which day the newer one came out.
CATALOGUE_DATE ?= 2026-11-20
PUBLISHED = build/catalogue
UV ?= uv

.PHONY: catalogue lock-catalogue

catalogue: .venv/runtime $(PUBLISHED)/ready
	PYTHONPATH=$(PUBLISHED) .venv/bin/python -m infra.bake --date $(CATALOGUE_DATE)

$(PUBLISHED)/ready: infra/catalogue.lock
	rm -rf $(PUBLISHED)
	.venv/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes --target $(PUBLISHED) -r infra/catalogue.lock
	@touch $@

lock-catalogue:
	$(UV) pip compile infra/catalogue.txt --no-deps --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header -q -U -o infra/catalogue.lock
