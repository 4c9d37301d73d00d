"""Least squares for a handful of columns, without numpy: a joining machine measures itself with the base install."""

import itertools
from collections.abc import Sequence

DEPENDENT = 1e-9
"""A column of which no more than this share is left beside the others says nothing of its own."""

Column = Sequence[float]


def non_negative_least_squares(rows: Sequence[Sequence[float]], values: Column) -> tuple[float, ...]:
    """The x >= 0 that minimises |rows @ x - values|, exactly.

    With three columns at most there are eight sets of active columns: the best feasible one is the optimum,
    since at the optimum the active columns solve their own least-squares problem (Lawson and Hanson, 1974).
    """
    columns = [[float(one) for one in column] for column in zip(*rows, strict=True)]
    best, best_error = [0.0] * len(columns), dot(values, values)
    for count in range(1, len(columns) + 1):
        for active in itertools.combinations(range(len(columns)), count):
            solution = least_squares([columns[one] for one in active], values)
            if solution is None or min(solution) < 0:
                continue
            left = residual([columns[one] for one in active], solution, values)
            error = dot(left, left)
            if error < best_error - 1e-18:
                best, best_error = [0.0] * len(columns), error
                for one, value in zip(active, solution, strict=True):
                    best[one] = value
    return tuple(best)


def least_squares(columns: Sequence[Column], values: Column) -> list[float] | None:
    """The x that minimises |sum(x_i columns_i) - values|; None when a column follows from those before it.

    By modified Gram-Schmidt, each column made orthogonal twice: once leaves rounding behind (Giraud et al., The loss of
    orthogonality in the Gram-Schmidt orthogonalization process, 2005).
    """
    basis: list[list[float]] = []
    triangle: list[list[float]] = []  # column i as a combination of the basis vectors 0 … i
    for column in columns:
        rest, shares = list(column), [0.0] * len(basis)
        for _ in range(2):
            for number, unit in enumerate(basis):
                share = dot(unit, rest)
                shares[number] += share
                rest = [one - share * two for one, two in zip(rest, unit, strict=True)]
        length = dot(rest, rest) ** 0.5
        if length <= DEPENDENT * dot(column, column) ** 0.5:
            return None
        basis.append([one / length for one in rest])
        triangle.append([*shares, length])
    left, solution = list(values), [0.0] * len(columns)
    along = []
    for unit in basis:
        share = dot(unit, left)
        left = [one - share * two for one, two in zip(left, unit, strict=True)]
        along.append(share)
    for number in reversed(range(len(columns))):
        known = sum(triangle[later][number] * solution[later] for later in range(number + 1, len(columns)))
        solution[number] = (along[number] - known) / triangle[number][number]
    return solution


def residual(columns: Sequence[Column], solution: Sequence[float], values: Column) -> list[float]:
    """``values`` less what the solution says of them."""
    left = list(values)
    for column, factor in zip(columns, solution, strict=True):
        left = [one - factor * two for one, two in zip(left, column, strict=True)]
    return left


def dot(left: Column, right: Column) -> float:
    """The sum of products."""
    return sum(one * two for one, two in zip(left, right, strict=True))


def spread(values: Column) -> float:
    """From the least to the greatest."""
    return max(values) - min(values)


def interpolate(at: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The line through the points with ascending ``xs``; level beyond the first and the last."""
    if at <= xs[0]:
        return float(ys[0])
    for (x0, y0), (x1, y1) in itertools.pairwise(zip(xs, ys, strict=True)):
        if at <= x1:
            return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return float(ys[-1])
