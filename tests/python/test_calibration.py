"""`mlserve calibrate`: thresholds of the semantic cache from labelled pairs."""

import io
import json
import random
import subprocess
import sys

import mlserve
import numpy
import pytest
from mlserve import calibration
from mlserve.calibration import Pair, Rate, hit_for, maybe_for, measure, read_pairs
from mlserve.cli import main
from scipy.stats import binomtest


def pairs_of(different, same):
    return [Pair(one, False) for one in different] + [Pair(one, True) for one in same]


TENTHS = pairs_of([n / 100 for n in range(100)], [0.5 + n / 200 for n in range(100)])


@pytest.mark.parametrize(("number", "of"), [(0, 1), (0, 300), (3, 300), (150, 300), (300, 300)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_intervals_are_those_of_scipy(number, of, confidence):
    wanted = binomtest(number, of).proportion_ci(confidence, "wilson")
    assert Rate(number, of).interval(confidence) == pytest.approx((wanted.low, wanted.high))


def test_of_nothing_nothing_is_known():
    assert Rate(0, 0).interval() == (0, 1)


@pytest.mark.parametrize(("wrong", "hit"), [(0.01, 0.982), (0.05, 0.942), (0.1, 0.892), (0.005, 0.992)])
def test_hit_lets_so_many_through_and_no_more(wrong, hit):
    """Though the server's similarities are off by 0.001."""
    assert hit_for(TENTHS, wrong) == pytest.approx(hit, abs=1e-9)
    for off in (-0.001, 0, 0.001):
        moved = [pair._replace(similarity=pair.similarity + off) for pair in TENTHS]
        assert measure(moved, hit).wrong.share <= wrong
    assert measure(TENTHS, hit - 0.012).wrong.share > wrong


def test_hit_may_be_sure_of_it():
    hit = hit_for(TENTHS, 0.1, sure=True)
    assert measure(TENTHS, hit).wrong.interval()[1] <= 0.1 < measure(TENTHS, 0.9).wrong.interval()[1]
    # Too few to tell.
    assert hit_for(TENTHS, 0.01, sure=True) is None
    assert hit_for(TENTHS, 0.01, sure=True, confidence=0.1) is not None


def test_where_there_is_no_threshold():
    assert hit_for(pairs_of([1.0, 0.5], [0.9]), 0.1) is None
    assert hit_for(pairs_of([0.3, 0.2], [0.9]), 1.0) == 0
    assert hit_for(pairs_of([], [0.9]), 0.1) is None


def test_maybe_finds_so_many():
    for recall in (0.5, 0.9, 0.95, 0.999):
        maybe = maybe_for(TENTHS, recall)
        assert measure(TENTHS, maybe + 0.001).right.share >= recall
        assert measure(TENTHS, maybe + 0.007).right.share < recall
    with pytest.raises(ValueError, match="no pair has the same answer"):
        maybe_for(pairs_of([0.5], []), 0.9)


def test_what_is_judged_is_measured_by_the_judge():
    pairs = [
        Pair(0.99, False), Pair(0.9, False, accepted=True), Pair(0.9, False), Pair(0.1, False, accepted=True),
        Pair(0.99, True), Pair(0.9, True, accepted=True), Pair(0.9, True),
    ]  # fmt: skip
    measured = measure(pairs, 0.95, 0.5)
    assert measured == ((2, 4), (2, 3), (4, 7))
    assert measure(pairs, 0.95) == ((1, 4), (1, 3), (0, 7))


def test_the_other_half_is_measured_by_thresholds_that_have_not_seen_it():
    """Those chosen on what they are measured on look better than they are."""
    source = random.Random(7)
    pairs = pairs_of(
        [source.gauss(0.7, 0.1) for _ in range(1000)], [source.gauss(0.9, 0.05) for _ in range(999)]
    )
    crossed = calibration.crossed(pairs, lambda some: (hit_for(some, 0.02), None))
    assert (crossed.wrong.of, crossed.right.of) == (1000, 999)
    assert 0.005 < crossed.wrong.share < 0.04
    seen = []

    def choose(some):
        seen.append(set(some))
        return 0.8, None

    calibration.crossed(pairs, choose)
    assert len(seen[0] & seen[1]) == 0
    assert calibration.crossed(pairs, lambda _: (None, None)) is None


def embed(text):
    return numpy.array([len(text), text.count("a"), 0, 0, 0, 0, 0, 1.0])


async def embed_later(text):
    return embed(text)


FILE = 'a,b,same,more\naaaa,aaab,1,x\n"a, b",bbbbbb,No,\nbbbb,bbbb, TRUE ,\nzz,aaaaaaa,0,\n'


def test_pairs_are_read_of_texts_or_of_similarities():
    pairs = read_pairs(io.StringIO(FILE), embed)
    assert [pair.same for pair in pairs] == [True, False, True, False]
    one, other = embed("aaaa"), embed("aaab")
    cosine = one @ other / numpy.linalg.norm(one) / numpy.linalg.norm(other)
    assert pairs[0].similarity == pytest.approx(cosine, abs=1e-6)
    assert pairs[2].similarity == pytest.approx(1)
    assert read_pairs(io.StringIO(FILE), embed_later) == pairs
    lines = ["similarity,same", "0.5,1.0", "1,0.0"]
    assert read_pairs(lines) == [Pair(0.5, True), Pair(1.0, False)]
    # Texts, where an embedder is given as well.
    assert read_pairs(["a,b,same,similarity", "aa,bb,1,-1", "a,a,0,-1"], embed)[1].similarity > 0.99


def test_a_judge_is_asked_as_by_the_cache():
    asked = []

    def judge(prompt, candidate):
        asked.append((prompt, candidate.prompt, round(candidate.similarity, 2)))
        return len(asked) == 1

    pairs = read_pairs(io.StringIO(FILE), embed, judge)
    assert asked[0] == ("aaab", "aaaa", 0.99)
    assert [pair.accepted for pair in pairs] == [True, False, False, False]

    async def later(prompt, candidate):
        return True

    assert all(pair.accepted for pair in read_pairs(io.StringIO(FILE), embed, later))
    with pytest.raises(ValueError, match="line 2: the judge says neither"):
        read_pairs(io.StringIO(FILE), embed, lambda *_: "no")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b", "x,y"], "no column 'same': it has a, b"),
        (["a,same", "x,1"], "no column 'b'"),
        (["a,b,same", "x,y,maybe"], "line 2: same must be 1, true or yes, or .*: 'maybe'"),
        (["a,b,same", "x,y,1", "x,,0"], "line 3: a and b must not be empty"),
        (["a,b,same", "x,y,1", "x,z,1"], "same must be 1 for some"),
        (["a,b,same"], "same must be 1 for some"),
        ([""], "the file is empty"),
        ([], "the file is empty"),
        (["similarity,same", "1,1"], "no column 'a' of texts, as --embed and --judge want"),
    ],
)
def test_a_file_that_is_wrong_is_told_by_its_line(lines, message):
    with pytest.raises(ValueError, match=message):
        read_pairs(lines, embed)


@pytest.mark.parametrize("similarity", ["", "x", "nan", "12", "-1.5"])
def test_a_similarity_that_is_none_is_told(similarity):
    with pytest.raises(ValueError, match="line 3: similarity must be a cosine"):
        read_pairs(["similarity,same", "0.5,1", f"{similarity},0"])


def test_an_embedder_that_says_the_same_of_all_is_told():
    """All questions would have one answer."""
    lines = ["a,b,same", "x,y,1", "x,z,0"]
    with pytest.raises(ValueError, match="does the embedder look at the text"):
        read_pairs(lines, lambda _: [1.0] * 8)
    with pytest.raises(ValueError, match="zero or not finite: 'x'"):
        read_pairs(lines, lambda _: [0.0] * 8)
    with pytest.raises(ValueError, match="give --embed, or a column similarity"):
        read_pairs(lines)


# --- the command --------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.csv"
    rows = [f"{pair.similarity},{int(pair.same)}" for pair in TENTHS]
    path.write_text("\n".join(["similarity,same", *rows]))
    return path


def test_the_command_tells_thresholds_and_what_they_do(file, capsys):
    assert main(["calibrate", str(file), "--wrong", "0.05", "--wrong", "0.001"]) == 0
    told = capsys.readouterr().out
    assert "200 pairs, 100 with the same answer" in told
    assert "HIT 0.942\n" in told
    assert "as chosen                         wrongly 5.0% (2.2% to 11.2%), rightly 11.0%" in told
    assert "chosen on one half, on the other  wrongly" in told
    assert "100 pairs that differ cannot show 0.001: 3838 are needed, none wrong" in told
    assert "MAYBE 0.524 finds 0.95 of those with the same answer" in told


def test_where_hit_alone_finds_enough_no_maybe_is_told(tmp_path, capsys):
    path = tmp_path / "pairs.csv"
    lines = [f"{0.9 if same else 0.5},{same}" for same in [0, 1] * 20]
    path.write_text("\n".join(["similarity,same", *lines]))
    assert main(["calibrate", str(path), "--wrong", "0.01"]) == 0
    told = capsys.readouterr().out
    assert "HIT 0.502 alone finds 0.95 of those with the same answer: no MAYBE is needed" in told
    assert "MAYBE 0" not in told


def test_the_command_tells_it_as_json(file, capsys):
    assert main(["calibrate", str(file), "--json", "--recall", "0.5"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["pairs"], report["same"], report["maybe"]) == (200, 100, 0.749)
    assert [one["wanted"] for one in report["chosen"]] == [0.001, 0.01]
    assert report["chosen"][1]["hit"] == 0.982
    assert report["chosen"][1]["alone"]["wrong"]["number"] == 1
    with mlserve.Client.from_url("redis://127.0.0.1:1") as client:
        mlserve.SemanticCache(
            client, embed, embedder="e", version="v", hit=report["chosen"][1]["hit"],
            maybe=report["maybe"],
        )  # fmt: skip


def test_the_command_takes_functions_by_their_names(tmp_path):
    (tmp_path / "mine.py").write_text(
        "class Models:\n"
        "    def embed(text): return [len(text), text.count('a'), 0, 0, 0, 0, 0, 1]\n"
        "async def judge(prompt, candidate): return prompt != candidate.prompt\n"
    )
    command = [sys.executable, "-m", "mlserve", "calibrate", "-"]
    functions = ["--embed", "mine:Models.embed", "--judge", "mine:judge"]
    done = subprocess.run(
        [*command, *functions], cwd=tmp_path, input=FILE + "a,zzzzzzzz,1,\n", capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "5 pairs, 3 with the same answer" in done.stdout
    assert "judged: " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "No such file"),
        (["--embed", "json", "FILE"], "'json' must be module:function"),
        (["--embed", "json:nothing", "FILE"], "json:nothing: module 'json' has no attribute"),
        (["--embed", "no_such:f", "FILE"], "No module named 'no_such'"),
        (["--embed", "sys:path", "FILE"], "sys:path must be a function"),
        (["--judge", "json:dumps", "FILE"], "the file has no column 'a'"),
    ],
)
def test_what_the_command_cannot_do_is_told(file, arguments, message, capsys):
    assert main(["calibrate", *[str(file) if one == "FILE" else one for one in arguments]]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told


@pytest.mark.parametrize("option", ["--wrong", "--recall", "--confidence"])
@pytest.mark.parametrize("share", ["0", "1", "5", "x"])
def test_shares_are_between_0_and_1(file, option, share):
    with pytest.raises(SystemExit):
        main(["calibrate", str(file), option, share])
