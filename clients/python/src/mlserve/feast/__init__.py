"""Feast on mlserve: its online store, and features as numpy arrays.

In `feature_store.yaml`, where Feast's own Redis store has `type: redis`:

```yaml
online_store:
  type: mlserve.feast.MlserveOnlineStore
  connection_string: "localhost:6379"
```

`get_online_tensor` reads the same features past protobuf:

```python
tensor = get_online_tensor(store, ["driver:rating"], [{"driver_id": 1001}])
tensor.values
```

It reads what Feast's own Redis store wrote as well, where the repository has `type: redis`
and the server the module: nothing is written anew.

An entity is one row with the key `feast:PROJECT:` and Feast's own serialization of the
entity key. A feature view is a view of that row.
"""

from __future__ import annotations

from mlserve.feast._store import MlserveOnlineStore, MlserveOnlineStoreConfig
from mlserve.feast._tensor import (
    OnlineTensor,
    get_online_tensor,
    get_online_tensor_async,
    row_keys,
)

__all__ = [
    "MlserveOnlineStore",
    "MlserveOnlineStoreConfig",
    "OnlineTensor",
    "get_online_tensor",
    "get_online_tensor_async",
    "row_keys",
]
