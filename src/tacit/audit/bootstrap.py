"""Percentile bootstrap for clustered data: a resample is a vector of cluster weights, and a metric a function of sums.

Rows that share a prompt (or a person, or an item) are not independent, so clusters are resampled, not rows. Drawing C
clusters with replacement gives cluster c an integer weight W_c; the weight of row i is the product over factors f of
W^(f)_{c_f(i)}. With one factor this is the ordinary cluster bootstrap (Field & Welsh 2007); with several it is the
pigeonhole bootstrap (Owen 2007; Owen & Eckles 2012, "Bootstrapping data arrays of arbitrary order", section 3), whose
variance is never below the truth in the limit and at most 2^F - 1 times it, F factors, where noise of single rows is
all there is: intervals from several factors are conservative.

Every metric of `tacit.audit` is a function of weighted sums of row statistics, so that the resamples of all of them
together are one product of a (resamples, clusters) weight matrix and a (clusters, statistics) matrix, in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

BUDGET = 4_000_000
"""Numbers in one chunk of the weight matrix: 32 MB."""


@dataclass(frozen=True)
class Clusters:
    """Which clusters every row belongs to.

    `factors` is (F, n) int: entry (f, i) is the cluster of row i in factor f, or -1 where the factor does not touch the
    row. `tables` names the weight table that each factor reads; two factors that read the same table (the two items of
    a comparison, say) share their draws.
    """

    factors: Index
    tables: tuple[int, ...]

    @classmethod
    def of(cls, *factors: npt.ArrayLike, tables: Sequence[int] | None = None) -> Clusters:
        """Clusters from one (n,) integer array per factor; by default each factor has its own table."""
        stacked = np.stack([np.asarray(factor, dtype=np.intp) for factor in factors])
        return cls(stacked, tuple(range(len(factors))) if tables is None else tuple(tables))

    @property
    def smallest(self) -> int:
        """The number of clusters in the table that has fewest: below 2 there is nothing to resample."""
        counts = [len(np.unique(part[part >= 0])) for part in self._by_table().values()]
        return min(counts, default=0)

    def take(self, keep: Index) -> Clusters:
        """The clusters of some rows."""
        return Clusters(self.factors[:, keep], self.tables)

    def _by_table(self) -> dict[int, Index]:
        return {
            table: np.concatenate([f for f, t in zip(self.factors, self.tables, strict=True) if t == table])
            for table in dict.fromkeys(self.tables)
        }

    def _compact(self) -> tuple[Index, Index, dict[int, int]]:
        """(factors, cells), (n,) cell of each row, and the size of each table, with unused clusters dropped."""
        renumbered = np.full_like(self.factors, -1)
        sizes: dict[int, int] = {}
        for table, used in self._by_table().items():
            names = np.unique(used[used >= 0])
            sizes[table] = len(names)
            for f, reads in enumerate(self.tables):
                if reads == table:
                    touched = self.factors[f] >= 0
                    renumbered[f, touched] = np.searchsorted(names, self.factors[f, touched])
        cells, cell_of_row = np.unique(renumbered, axis=1, return_inverse=True)
        return cells, cell_of_row.reshape(-1), sizes

    def weights(self, resamples: int, rng: np.random.Generator) -> Iterator[Array]:
        """Weights of all rows, in chunks (r, n) that add up to `resamples` draws; a row of weights has mean about 1."""
        cells, cell_of_row, sizes = self._compact()
        for chunk in _cell_weights(cells, sizes, self.tables, resamples, rng, width=len(cell_of_row)):
            yield chunk[:, cell_of_row]

    def sums(self, statistics: npt.ArrayLike, resamples: int, rng: np.random.Generator) -> Array:
        """Weighted sums of row statistics (n, k) for each resample: (resamples, k)."""
        values = np.asarray(statistics, dtype=np.float64)
        cells, cell_of_row, sizes = self._compact()
        totals = np.stack(
            [np.bincount(cell_of_row, weights=column, minlength=cells.shape[1]) for column in values.T], axis=1
        )
        chunks = _cell_weights(cells, sizes, self.tables, resamples, rng, width=cells.shape[1])
        return np.concatenate([chunk @ totals for chunk in chunks])


def _cell_weights(
    cells: Index, sizes: dict[int, int], tables: tuple[int, ...], resamples: int, rng: np.random.Generator, width: int
) -> Iterator[Array]:
    step = max(1, BUDGET // max(width, *sizes.values(), 1))
    for start in range(0, resamples, step):
        r = min(step, resamples - start)
        drawn = {table: _multinomial(r, size, rng) for table, size in sizes.items()}
        product: Array = np.ones((r, cells.shape[1]))
        for factor, table in zip(cells, tables, strict=True):
            touched = factor >= 0
            if touched.all():
                product *= drawn[table][:, factor]
            else:
                product[:, touched] *= drawn[table][:, factor[touched]]
        yield product


def _multinomial(resamples: int, clusters: int, rng: np.random.Generator) -> Array:
    """How often each cluster is drawn when `clusters` are drawn with replacement: (resamples, clusters)."""
    drawn = rng.integers(0, clusters, size=(resamples, clusters)) + clusters * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * clusters).reshape(resamples, clusters).astype(np.float64)


def interval(draws: npt.ArrayLike, level: float = 0.95) -> list[float] | None:
    """[lower, upper] percentiles of the resampled values; None where fewer than two of them are finite."""
    values = np.asarray(draws, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    lower, upper = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return [float(lower), float(upper)]


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Array:
    """Numerator / denominator, nan where the denominator is 0 (a resample without any row that counts)."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    quotient: Array = np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom != 0)
    return quotient
