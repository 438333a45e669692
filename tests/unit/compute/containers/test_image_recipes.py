"""References and recipes: what they say, and what is refused."""

import pytest

from twinfra.compute.containers.images.model import (
    ImageConfig,
    Reference,
    UnpackedImage,
    parse_reference,
)
from twinfra.compute.containers.images.recipe import read_recipe
from twinfra.core.errors import InvalidRequest

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("twin", Reference("twin")),
        ("twin:1.2", Reference("twin", "1.2")),
        ("climate/twin:1", Reference("climate/twin", "1")),
        (f"twin@{DIGEST}", Reference("twin", "latest", DIGEST)),
        (f"twin:1@{DIGEST}", Reference("twin", "1", DIGEST)),
        ("localhost:5000/a/b:2", Reference("localhost:5000/a/b", "2")),
        ("Registry.example.org/a", Reference("Registry.example.org/a")),
    ],
)
def test_a_reference_is_read(text, expected):
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", ":1", "a:", "A b", "../x", "a//b", "-a", "a:$(id)", "a\nb", "a@sha256:12", f"a@{DIGEST}0",
     "a@md5:12", "twin:" + "x" * 129, "/a", "a/"],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(InvalidRequest):
        parse_reference(text)


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        (None, None, ("in", "def")),
        (None, ("a",), ("in", "a")),
        (("c",), None, ("c",)),
        (("c",), ("a",), ("c", "a")),
        ((), (), ("in", "def")),
    ],
)
def test_command_and_args_follow_kubernetes(tmp_path, command, args, expected):
    config = ImageConfig(entrypoint=("in",), cmd=("def",))
    image = UnpackedImage("r", DIGEST, tmp_path, config)
    assert image.command(command, args) == expected


def write(folder, text):
    (folder / "recipe.toml").write_text(text)
    return folder / "recipe.toml"


def test_a_recipe_is_read(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "lock").write_text("")
    path = write(
        tmp_path,
        'name = "a"\ntag = "2"\ndebian = ["python3"]\nrequirements = "lock"\nuser = "7"\n'
        'env = { A = "b" }\n[[files]]\nsource = "app"\ntarget = "/srv/app"\n',
    )
    recipe = read_recipe(path)
    assert recipe.reference == "a:2"
    assert recipe.files[0].source == tmp_path / "app"
    assert recipe.requirements == tmp_path / "lock"
    assert recipe.config.env == {"A": "b"}


@pytest.mark.parametrize(
    "text",
    [
        "", "x", 'name = "A B"', 'name = "a"\nunknown = 1', 'name = "a"\ntag = "/"',
        'name = "a"\ndebian = ["--download-only"]', 'name = "a"\ndebian = ["a;b"]',
        'name = "a"\nrequirements = "missing"\ndebian = ["python3"]',
        'name = "a"\nrequirements = "recipe.toml"',
        'name = "a"\n[[files]]\nsource = "../x"\ntarget = "/x"',
        'name = "a"\n[[files]]\nsource = "/etc"\ntarget = "/x"',
        'name = "a"\n[[files]]\nsource = "recipe.toml"\ntarget = "x"',
        'name = "a"\n[[files]]\nsource = "recipe.toml"\ntarget = "/../x"',
        'name = "a"\nworkdir = "x"', 'name = "a"\nenv = { "A=B" = "c" }',
    ],
)  # fmt: skip
def test_a_faulty_recipe_is_refused(tmp_path, text):
    with pytest.raises(InvalidRequest):
        read_recipe(write(tmp_path, text))
