"""Pictures of ``response_format: url``."""

from __future__ import annotations

from fastapi import APIRouter, Path
from fastapi.responses import Response

from eclipse.serve.errors import ApiError
from eclipse.serve.files_store import PATH
from eclipse.serve.routes.common import Server, errors

router = APIRouter()


@router.get(
    PATH + "{name}.png",
    tags=["images"],
    operation_id="getFile",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "the picture"}, **errors(400, 404)},
)
async def get_file(serving: Server, name: str = Path(max_length=64)) -> Response:
    """A picture, while it is kept; its address needs no key because nobody can guess it."""
    content = serving.files.get(name)
    if content is None:
        raise ApiError(404, "no such picture, or it was kept long enough; ask for b64_json to keep it yourself")
    return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600, immutable"})
