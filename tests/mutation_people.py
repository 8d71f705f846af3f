"""Faults in human evaluation and in metrics of folders, cheapest tests first."""

from tests.mutation_kind import Mutation

_HUMAN = ("evaluate/human/test_analysis.py",)
_ANSWERS = ("evaluate/human/test_answers.py",)
_STUDY = ("evaluate/human/test_study.py", "evaluate/human/test_make.py")
_SETS = (
    "evaluate/suites/test_set_metrics.py",
    "evaluate/suites/test_image_sets.py",
)

PEOPLE = (
    Mutation(
        "evaluate/metrics/agreement.py",
        "/ (counts.sum(1) - 1)",
        "/ counts.sum(1)",
        ("evaluate/metrics/test_agreement.py",),
        "alpha pairs each answer with itself",
    ),
    Mutation(
        "evaluate/metrics/significance.py",
        "(len(values) - rank) * values[index]",
        "len(values) * values[index]",
        ("evaluate/metrics/test_significance.py",),
        "Holm's correction is Bonferroni's",
    ),
    Mutation(
        "evaluate/metrics/intervals.py",
        "np.sum(weights[0] @ x * weights[1], axis=1)",
        "np.sum(x.sum(0) * weights[1], axis=1)",
        ("evaluate/metrics/test_intervals.py",),
        "raters are taken as fixed in an interval over raters and prompts",
    ),
    Mutation(
        "evaluate/human/tally.py",
        "1 if chosen == pair[0] else -1",
        "1 if answer.order[0] == answer.choices[question] else -1",
        _HUMAN,
        "the side of an image is taken for its model",
    ),
    Mutation(
        "evaluate/human/analysis.py",
        "np.mean(rater.checks) >= keep",
        "np.mean(rater.checks) >= 0",
        _HUMAN,
        "who fails the checks is kept",
    ),
    Mutation(
        "evaluate/human/answers.py",
        "return not chosen & set(noise) and",
        "return",
        _ANSWERS,
        "who chooses noise passes a check",
    ),
    Mutation(
        "evaluate/human/answers.py",
        "k.token == rater.token or k.code == rater.code",
        "k.token == rater.token",
        _ANSWERS,
        "one rater in two browsers counts twice",
    ),
    Mutation(
        "evaluate/human/study.py",
        "sorted(shown, key=lambda item: item.id)",
        "shown",
        _STUDY,
        "checks stand behind all other items",
    ),
    Mutation(
        "evaluate/human/study.py",
        "dict(sorted(names.items()))",
        "names",
        _STUDY,
        "the first candidate is always of the first model",
    ),
    Mutation(
        "evaluate/human/page.py",
        '.replace("<", "\\\\u003c")',
        "",
        _STUDY,
        "a prompt can end the element that it stands in",
    ),
    Mutation(
        "evaluate/human/candidates.py",
        "scale = side / max(image.shape)",
        "scale = 1",
        _STUDY,
        "the size of an image tells its model",
    ),
    Mutation(
        "evaluate/suites/image_sets.py",
        "or pixels.shape != batch[0].shape",
        "or pixels.shape[0] != batch[0].shape[0]",
        _SETS,
        "images of two widths are put into one batch",
    ),
    Mutation(
        "evaluate/suites/set_metrics.py",
        "pair in zip(*(each.picked(names) for each in sides), strict=True)",
        "pair in zip(*sides, strict=True)",
        _SETS,
        "pairs are made by place instead of by name",
    ),
    Mutation(
        "evaluate/suites/feature_metrics.py",
        "cmmd(embedded[second], embedded[first], source)",
        "cmmd(embedded[first], embedded[first], source)",
        _SETS,
        "a set is compared with itself",
    ),
)
