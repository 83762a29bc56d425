pytest_plugins = [
    "tests.providers",
    "tests.servers",
    "tests.dynamodb_server",
    "tests.model",
    "tests.emulator",
    "tests.nearvote_server",
    "tests.protocol_server",
    "tests.admin_server",
    "tests.failing_fleet",
    "tests.infra.adapter",
    "tests.infra.artifact",
]
