# What Lambda runs. SAM calls build-<logical id> with ARTIFACTS_DIR set; `ARCH=arm64 sam build` goes with the
# template's Architecture=arm64. With build_in_source, the three functions share what is built once.
ARCH ?= x86_64
ARTIFACT = build/lambda-$(ARCH)
UV ?= uv

.PHONY: package lock-lambda build-DataFunction build-ControlFunction build-InboxFunction

package: check-template .venv/runtime
	.venv/bin/python -m infra.package --arch $(ARCH) --out $(ARTIFACT) --zip $(ARTIFACT).zip

build-DataFunction build-ControlFunction build-InboxFunction: .venv/runtime
	.venv/bin/python -m infra.package --arch $(ARCH) --out $(ARTIFACT)
	cp -Rp $(ARTIFACT)/. "$(ARTIFACTS_DIR)"

# Left out: what the runtime brings (boto3 and what it needs), and what no function imports.
NOT_IN_LAMBDA = boto3 botocore s3transfer jmespath python-dateutil six hf-xet protobuf flatbuffers fsspec
lock-lambda:
	rm -f infra/requirements-lambda.lock
	printf 'httptools\nuvicorn\nuvloop\n' | $(UV) pip compile pyproject.toml - -c requirements.lock \
		--python-version 3.13 --python-platform x86_64-manylinux_2_28 $(NOT_IN_LAMBDA:%=--no-emit-package %) \
		--generate-hashes --no-emit-index-url --no-header --no-annotate -q -o infra/requirements-lambda.lock
