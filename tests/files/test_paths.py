"""A path in a file stays inside its folder, with the links of the Hugging Face cache as the one exception."""

from __future__ import annotations

from pathlib import Path

import pytest

from files.paths import blobs_of, is_inside, resolve_inside

HASH = "ab" + "0123456789abcdef" * 3 + "0123456789abcd"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"a")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "data-too").mkdir()
    return folder


@pytest.mark.parametrize("name", ["a.png", "sub/../a.png", "./a.png", "nowhere/at/all.png", "sub", ".", "é \n.png"])
def test_a_path_inside_may_be_anything_and_need_not_exist(folder: Path, name: str) -> None:
    assert resolve_inside(folder, name) == folder / name


def test_an_absolute_path_counts_by_where_it_leads(folder: Path) -> None:
    assert resolve_inside(folder, str(folder / "a.png")) == folder / "a.png"


@pytest.mark.parametrize(
    "name", ["../secret.png", "sub/../../secret.png", "/etc/hostname", "..", "../data-too", "sub/../../data/../a.png"]
)
def test_a_path_that_leads_outside_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leads outside of"):
        resolve_inside(folder, name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "the name is empty"),
        ("a\0.png", "cannot be a path"),
        ("a" * 5000, "cannot be a path .*too long"),
        ("\ud800.png", "cannot be a path .*character"),
        ("a.png/b", "cannot be a path .*Not a directory"),
        ("round", "cannot be a path .*go round"),
    ],
)
def test_what_cannot_be_a_path_is_refused_in_one_short_line(folder: Path, name: str, says: str) -> None:
    (folder / "round").symlink_to("round")
    with pytest.raises(ValueError, match=says) as caught:
        resolve_inside(folder, name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    str(caught.value).encode()  # it can be printed


def test_a_symlink_is_followed_inside_and_refused_outside(folder: Path) -> None:
    (folder / "good.png").symlink_to("a.png")
    (folder / "bad.png").symlink_to("../secret.png")
    (folder / "chain.png").symlink_to("bad.png")
    (folder / "up").symlink_to("..")
    assert resolve_inside(folder, "good.png")
    for name in ("bad.png", "chain.png", "up/secret.png"):
        with pytest.raises(ValueError, match="leads outside"):
            resolve_inside(folder, name)
    assert resolve_inside(folder, "up/data/a.png")


def test_the_folder_itself_may_be_reached_by_a_symlink(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert is_inside(link / "a.png", link)
    assert is_inside(folder / "a.png", link)


def snapshot(cache: Path, repository: str = "datasets--org--set") -> Path:
    snapshot = cache / repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (cache / repository / "blobs").mkdir()
    (cache / repository / "blobs" / "f00").write_bytes(b"blob")
    (snapshot / "a.png").symlink_to("../../blobs/f00")
    return snapshot


def test_a_snapshot_of_the_hub_cache_may_link_to_its_own_blobs(tmp_path: Path) -> None:
    mine = snapshot(tmp_path)
    other = snapshot(tmp_path, "models--org--other")
    assert blobs_of(mine) == tmp_path / "datasets--org--set" / "blobs"
    assert is_inside(mine / "a.png", mine)
    (mine / "b.png").symlink_to(other.parents[1] / "blobs" / "f00")
    (mine / "c.png").symlink_to(tmp_path / "datasets--org--set" / "refs")
    assert not is_inside(mine / "b.png", mine)
    assert not is_inside(mine / "c.png", mine)


def test_a_folder_that_is_merely_called_snapshots_has_no_blobs(tmp_path: Path) -> None:
    plain = snapshot(tmp_path, "backups")
    assert blobs_of(plain) is None
    assert not is_inside(plain / "a.png", plain)


def test_blobs_that_are_themselves_a_link_are_not_followed(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "f00").write_bytes(b"secret")
    folder = tmp_path / "models--x" / "snapshots" / "1"
    folder.mkdir(parents=True)
    (tmp_path / "models--x" / "blobs").symlink_to(secrets)
    (folder / "a").symlink_to("../../blobs/f00")
    assert not is_inside(folder / "a", folder)


def test_a_blob_may_link_to_the_store_that_repositories_share(tmp_path: Path) -> None:
    mine = snapshot(tmp_path)
    shared = tmp_path / "blobs" / HASH[:2] / HASH
    shared.parent.mkdir(parents=True)
    shared.write_bytes(b"shared")
    (tmp_path / "datasets--org--set" / "blobs" / "f11").symlink_to(f"../../blobs/{HASH[:2]}/{HASH}")
    (mine / "b.png").symlink_to("../../blobs/f11")
    assert is_inside(mine / "b.png", mine)
    # Only by way of the repository's own blobs, and only to what is named by its hash.
    (mine / "direct.png").symlink_to(shared)
    (tmp_path / "blobs" / "other").write_bytes(b"")
    (tmp_path / "datasets--org--set" / "blobs" / "f12").symlink_to("../../blobs/other")
    (mine / "c.png").symlink_to("../../blobs/f12")
    assert not is_inside(mine / "direct.png", mine)
    assert not is_inside(mine / "c.png", mine)
