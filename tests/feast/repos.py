"""What Feast's own tests are run with: see scripts/feast-suite. The store goes by the name of
one of Feast's, so that the tests that are of that alone are run with any."""

import os

from tests.universal.feature_repos.universal.data_sources.file import FileDataSourceCreator

AVAILABLE_OFFLINE_STORES = [("local", FileDataSourceCreator)]
AVAILABLE_ONLINE_STORES = {
    os.environ["GOES_BY"]: (
        {"type": os.environ["STORE"], "connection_string": os.environ["CONNECTION_STRING"]},
        None,
    )
}
