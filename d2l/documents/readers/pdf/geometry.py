"""Matrices and boxes of a PDF page, in points: x to the right, y upward."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

Matrix = tuple[float, float, float, float, float, float]
Box = tuple[float, float, float, float]  # left, bottom, right, top
Point = tuple[float, float]

IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
EVERYWHERE: Box = (-math.inf, -math.inf, math.inf, math.inf)


def read_matrix(operands: Sequence[Any]) -> Matrix:
    """Six numbers as a matrix; raises ValueError or TypeError for anything else."""
    a, b, c, d, e, f = map(float, operands)
    return a, b, c, d, e, f


def multiply(one: Matrix, two: Matrix) -> Matrix:
    """The matrix that does what `one` does, and then what `two` does."""
    a, b, c, d, e, f = one
    p, q, r, s, t, u = two
    return (
        a * p + b * r,
        a * q + b * s,
        c * p + d * r,
        c * q + d * s,
        e * p + f * r + t,
        e * q + f * s + u,
    )


def move(matrix: Matrix, x: float, y: float) -> Matrix:
    """The matrix after a move within its own space."""
    a, b, c, d, e, f = matrix
    return a, b, c, d, x * a + y * c + e, x * b + y * d + f


def transform(matrix: Matrix, x: float, y: float) -> Point:
    """Where a point comes to lie."""
    a, b, c, d, e, f = matrix
    return a * x + c * y + e, b * x + d * y + f


def transform_box(matrix: Matrix, box: Box) -> Box:
    """The box around a box that a matrix turns."""
    left, bottom, right, top = box
    corners = ((left, bottom), (right, bottom), (left, top), (right, top))
    return bound(transform(matrix, x, y) for x, y in corners)


def bound(points: Iterable[Point]) -> Box:
    """The box around points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def intersect(one: Box, two: Box) -> Box:
    """What two boxes share; its right is left of its left where they share nothing."""
    return max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])


def is_empty(box: Box) -> bool:
    """Whether a box holds nothing at all; a line or a point is something."""
    return not (box[0] <= box[2] and box[1] <= box[3])


def is_rectangle(points: Sequence[Point]) -> bool:
    """Whether a closed line through points is a rectangle with upright sides."""
    if len(points) == 5 and points[0] == points[4]:
        points = points[:4]
    if len(points) != 4:
        return False
    xs, ys = {x for x, _ in points}, {y for _, y in points}
    turns = all(
        (one[0] == two[0]) != (one[1] == two[1])
        for one, two in zip(points, [*points[1:], points[0]], strict=True)
    )
    return len(xs) == 2 and len(ys) == 2 and turns


def determinant(matrix: Matrix) -> float:
    """By how much a matrix scales areas."""
    return matrix[0] * matrix[3] - matrix[1] * matrix[2]
