"""The guard in front of CherryPy and TurboGears, which look up punctuation as underscores."""

from __future__ import annotations

import itertools
import string
from typing import TYPE_CHECKING

import pytest

from pulse.guard.guard import Guard
from tests.support import routers

if TYPE_CHECKING:
    from collections.abc import Callable

    LookUp = Callable[[str], list[str]]

VIEW = "/my_app/clean_up"
FRAMES = ["/my{0}app/clean{0}up", "/my{0}app/clean_up", "/my_app/clean{0}up"]
SUFFIXES = ["", "/", ".json", ".zzz", ".", ";x", ".json/", "/.json", ".tar.gz", ".;.x"]
PATHS = [
    frame.format(mark) + suffix
    for frame, mark, suffix in itertools.product(FRAMES, string.punctuation, SUFFIXES)
]
LOOK_UPS = [routers.look_up_in_cherrypy, routers.look_up_in_turbogears]


def covers(guard: Guard, path: str) -> bool:
    """Return whether the guard refuses a path."""
    return guard.refuses({"SCRIPT_NAME": "", "PATH_INFO": path})


@pytest.mark.parametrize("look_up", LOOK_UPS)
@pytest.mark.parametrize("more", ["", "/now"])
def test_path_that_a_dispatcher_looks_up_as_the_view_is_refused(look_up: LookUp, more: str) -> None:
    """Each punctuation mark at each underscore, with formats, and with arguments of the view."""
    guard = Guard([("cleanup", VIEW)])
    leading = [path + more for path in PATHS if look_up(path + more)[:2] == look_up(VIEW)]

    assert len(leading) > 50
    assert [path for path in leading if not covers(guard, path)] == []


@pytest.mark.parametrize("look_up", LOOK_UPS)
def test_action_guards_all_paths_that_a_dispatcher_looks_up_as_the_action(
    look_up: LookUp,
) -> None:
    """The path of a task is read in the same way as the path of a request.

    Each action is compared with the plain path and one path in 37, another set for each action.
    """
    for names, group in itertools.groupby(sorted(PATHS, key=look_up), look_up):
        plain, paths = "/" + "/".join(names), [*group]
        for number, action in enumerate([plain, *paths]):
            guard = Guard([("cleanup", action)])
            some = [plain, *paths[number % 37 :: 37]]
            assert [path for path in some if not covers(guard, path)] == [], action


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ("/clean_up", "/clean;up"),
        ("/clean_up", "/clean?up"),
        ("/clean_up", "/clean#up"),
        ("/clean_up", "/clean\\up"),
        ("/clean_up", "/clean%3Bup"),
        ("/clean_up", "/clean\xef\xbc\x9bup"),
        ("/my_app/clean_up", "/my;app/clean_up"),
        ("/clean_up", "/clean.up.json"),
        ("/clean_up", "/clean.up.zzz"),
        ("/clean_up", "/clean.up."),
        ("/my_app/clean_up", "/my.app/clean.up.json"),
        ("/clean_up.json", "/clean.up/.json"),
        ("/_clean", "/+clean"),
        ("/__clean", "/@@clean"),
        ("/@@clean", "/__clean"),
        ("/clean;up", "/clean_up"),
        ("/a_b_c_d_e_f_g_h_i_j_k_l_m_n_o_p_q_r", "/a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.json"),
    ],
)
def test_other_name_of_a_view_is_refused(action: str, path: str) -> None:
    """CherryPy and TurboGears neither cut a path nor drop view selectors."""
    assert covers(Guard([("cleanup", action)]), path)


@pytest.mark.parametrize(
    "path", ["/clean", "/clean;x", "/clean/up", "/clean.json", "/cleanup", "/clean;upper"]
)
def test_name_of_another_view_is_allowed(path: str) -> None:
    """A longer or shorter name is another view."""
    assert not covers(Guard([("cleanup", "/clean_up")]), path)
