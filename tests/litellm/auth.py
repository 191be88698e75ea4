"""Keys that say their own limits, so that the proxy needs no database.

`sk-name;rpm=50;tpm=1000;slots=4;team=t;team_tpm=500;model_rpm=3`
"""

from litellm.proxy._types import UserAPIKeyAuth, hash_token


async def user_api_key_auth(request, api_key):
    said = dict(word.split("=") for word in api_key.split(";")[1:])

    def number(name):
        return int(said[name]) if name in said else None

    metadata = {}
    for name in ("rpm", "tpm"):
        if f"model_{name}" in said:
            metadata[f"model_{name}_limit"] = {"fake": number(f"model_{name}")}
    return UserAPIKeyAuth(
        api_key=hash_token(api_key.split(";")[0]),
        rpm_limit=number("rpm"),
        tpm_limit=number("tpm"),
        max_parallel_requests=number("slots"),
        team_id=said.get("team"),
        team_rpm_limit=number("team_rpm"),
        team_tpm_limit=number("team_tpm"),
        metadata=metadata,
    )
