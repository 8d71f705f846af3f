"""A request in parts of a batch each, so that its first images are there early."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from cogjax.pipelines.contracts import Generation, Part, Progress
from cogjax.pipelines.request import Request

# Makes the images of a part: (its request, numbers of its prompts, progress).
Make = Callable[[Request, Sequence[int], Progress], Generation]


def in_parts(
    request: Request, batch_size: int, make: Make, progress: Progress | None
) -> Iterator[Part]:
    """The images of a request, prompt by prompt, as they are made.

    The parts have one size, so that they share their programs: a last short one is
    filled with its first prompt, and with more images.
    """
    count = max(request.num_images, request.rerank)
    total = len(request.prompts) * count
    for prompts, images, size in _cut(request, batch_size):
        numbers = [*prompts] + [prompts[0]] * (size[0] - len(prompts))
        asked = request
        if request.style is None:
            asked = replace(
                request,
                prompts=tuple(request.prompts[i] for i in numbers),
                num_images=size[1],
                first=request.first + images[0],
            )
        done = prompts[0] * count + images[0]
        of_part = len(prompts) * (count if request.rerank else len(images))
        found = make(asked, numbers, _within(progress, done, of_part, total))
        yield Part(prompts, images, _first(found, len(prompts), len(images)))


def _cut(
    request: Request, batch_size: int
) -> Iterator[tuple[range, range, tuple[int, int]]]:
    """(prompts, images of each, how many of both the part is filled up to)."""
    prompts, num_images = len(request.prompts), request.num_images
    count = max(num_images, request.rerank)
    whole = request.rerank > 0 or request.style is not None
    at_once = max(1, batch_size // count) if request.style is None else prompts
    at_once = min(at_once, prompts)
    calls = 1 if whole else -(-num_images // batch_size)
    together = -(-num_images // calls)
    for start in range(0, prompts, at_once):
        those = range(start, min(start + at_once, prompts))
        for first in range(0, num_images, together):
            images = range(first, min(first + together, num_images))
            yield those, images, (at_once, together)


def _first(found: Generation, prompts: int, images: int) -> Generation:
    """So many prompts, and images of each."""
    codes, scores = found.codes, found.scores
    return replace(
        found,
        prompts=found.prompts[:prompts],
        pixels=found.pixels[:prompts, :images],
        codes=None if codes is None else codes[:prompts, :images],
        scores=None if scores is None else scores[:prompts, :images],
        unread=found.unread[:prompts],
    )


def _within(progress: Progress | None, before: int, size: int, total: int) -> Progress:
    """Progress of a part as that of all, so many images being made before it."""

    def say(done: int, own_total: int, label: str) -> None:
        if progress is not None:
            progress(before + size * done // max(own_total, 1), total, label)

    return say
