"""A plugin of pytest for Feast's own tests: what they import of clouds, unless they are told to
leave out some of those of Redis, stands empty. So the libraries of clouds are not needed."""

import sys
from types import ModuleType

SOURCES = "tests.universal.feature_repos.universal.data_sources"


def stand_in(module, **names):
    sys.modules[module] = ModuleType(module)
    vars(sys.modules[module]).update(names)


stand_in(f"{SOURCES}.bigquery", BigQueryDataSourceCreator=type("BigQuery", (), {}))
stand_in(f"{SOURCES}.redshift", RedshiftDataSourceCreator=type("Redshift", (), {}))
stand_in("google.cloud", bigquery=ModuleType("google.cloud.bigquery"))
