"""Saving and loading of fitted models, as folders or as repositories on the Hugging Face Hub."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from skastw.artifact.documents import Loaded, from_documents, to_documents
from skastw.artifact.folder import FETCHED, read_artifact, read_files, write_artifact
from skastw.core.text import readable
from skastw.errors import ArtifactError
from skastw.network.trained import Trained
from skastw.storage import hub
from skastw.storage.outputs import scratch_folder

T = TypeVar("T")


def save(
    trained: Trained,
    folder: str | os.PathLike[str],
    *,
    estimator: str,
    params: Mapping[str, Any],
    title: str | None = None,
    overwrite: bool = False,
) -> str:
    """Save a model to a folder, and return the folder.

    Parameters
    ----------
    trained : Trained
        Fitted model with a front end.
    folder : path
    estimator : str
        Name of the class that loads the model.
    params : mapping
        Parameters of the estimator to save, as JSON values.
    title : str, optional
        Name of the model in its model card; by default the name of the folder.
    overwrite : bool, default=False
        See :func:`skastw.artifact.folder.write_artifact`.
    """
    title = readable(" ".join((title or os.path.basename(os.path.realpath(folder))).split()))
    documents = to_documents(trained, title=title, estimator=estimator, params=params)
    return str(write_artifact(folder, documents, overwrite=overwrite))


def load(
    model: str | os.PathLike[str],
    build: Callable[[Loaded], T],
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> T:
    """Load a model from a folder or from the Hub.

    Parameters
    ----------
    model : path or str
        A folder, or a repository ``"user/name"``.
    build : callable
        Function that takes the loaded model and returns the result, such as an estimator.
    revision, token, cache_dir : optional
        See :func:`skastw.storage.hub.fetch`.

    Raises
    ------
    ArtifactError
        If the folder is incomplete or inconsistent.
    HubError
        If the repository cannot be read.
    """

    def read(folder: Path) -> T:
        try:
            return build(from_documents(read_artifact(folder)))
        except ArtifactError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"{os.fspath(model)!r} is not a consistent model: {reason[:500]}") from error

    return hub.read(model, FETCHED, read, revision=revision, token=token, cache_dir=cache_dir)


def push(
    trained: Trained,
    repo_id: str,
    *,
    estimator: str,
    params: Mapping[str, Any],
    private: bool | None = None,
    token: str | None = None,
) -> str:
    """Save a model to a repository on the Hub, and return the URL of the commit.

    Parameters
    ----------
    trained, estimator, params
        See :func:`save`.
    repo_id : str
        ``"user/name"``; the repository is created if missing.
    private, token : optional
        See :func:`skastw.storage.hub.push`.
    """
    with scratch_folder(Path(tempfile.gettempdir())) as parent:
        folder = save(trained, parent / repo_id.rpartition("/")[2], estimator=estimator, params=params)
        return hub.push(read_files(folder), repo_id, private=private, token=token)
