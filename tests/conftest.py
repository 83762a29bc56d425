pytest_plugins = ["tests.providers", "tests.servers", "tests.dynamodb_server", "tests.model", "tests.nearvote_server"]
