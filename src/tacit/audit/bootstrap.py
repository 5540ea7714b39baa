"""Percentile bootstrap for clustered data: a resample is a vector of cluster weights, and a metric a function of sums.

Rows that share a prompt (or a person, or an item) are not independent, so clusters are resampled, not rows. Drawing C
clusters with replacement gives cluster c an integer weight W_c; the weight of row i is the product over factors f of
W^(f)_{c_f(i)}. With one factor this is the ordinary cluster bootstrap (Field & Welsh 2007); with several it is the
pigeonhole bootstrap (Owen 2007; Owen & Eckles 2012, "Bootstrapping data arrays of arbitrary order", section 3), whose
variance is never below the truth in the limit and at most 2^F - 1 times it, F factors, where noise of single rows is
all there is. `Clusters.means` takes that excess out of the spread of means: it shrinks the draws to the variance

    sum over rows i, j that share a cluster of psi_i psi_j,    psi_i = w_i (y_i - mean) / sum w,

which counts every such pair of rows once, by inclusion and exclusion (Cameron, Gelbach & Miller 2011, equation 2.13;
for pairs of items Aronow, Samii & Assenova 2015, equation 6). `sums` leaves it in.

Every metric of `tacit.audit` is a function of weighted sums of row statistics, so that the resamples of all of them
together are one product of a (resamples, clusters) weight matrix and a (clusters, statistics) matrix, in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

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

    def varied(self) -> Clusters:
        """Without the tables that hold one cluster alone, where others hold more: what is said is said of that one."""
        names = self._by_table()
        kept = [f for f, t in enumerate(self.tables) if len(np.unique(names[t][names[t] >= 0])) > 1]
        return Clusters(self.factors[kept], tuple(self.tables[f] for f in kept)) if kept else self

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

    def means(
        self,
        values: npt.ArrayLike,
        weights: npt.ArrayLike,
        resamples: int,
        rng: np.random.Generator,
        *,
        weight_of: Sequence[int] | None = None,
    ) -> tuple[Array, Array]:
        """Weighted means (k,) of `values` (n, k) and their resamples (resamples, k), nan where nothing counts.

        `weights` is (n,) or (n, m), at least 0, and `weight_of` (k,) says which of the m each column has, the first
        unless given. With several factors the draws are those of the pigeonhole bootstrap, shrunk about the mean to
        the variance that rows which share a cluster explain (module docstring).
        """
        y = np.asarray(values, dtype=np.float64)
        w = np.asarray(weights, dtype=np.float64).reshape(len(y), -1)
        of = np.zeros(y.shape[1], dtype=np.intp) if weight_of is None else np.asarray(weight_of, dtype=np.intp)
        weighted = y * w[:, of]
        total = w.sum(axis=0)[of]
        mean = ratio(weighted.sum(axis=0), total)
        both = self.sums(np.concatenate([weighted, w], axis=1), resamples, rng)
        draws = ratio(both[:, : len(of)], both[:, len(of) + of])
        if len(self.factors) == 1 or resamples < 2:
            return mean, draws
        variance = self.variance(np.nan_to_num(ratio(weighted - w[:, of] * mean, total)))
        excess = ratio(variance, np.square(np.where(np.isfinite(draws), draws - mean, 0.0)).mean(axis=0))
        shrunk: Array = mean + (draws - mean) * np.sqrt(np.clip(np.nan_to_num(excess, nan=1.0), 0.0, 1.0))
        return mean, shrunk

    def variance(self, influence: npt.ArrayLike) -> Array:
        """Variance (k,) of the sums of `influence` (n, k): products over all pairs of rows that share a cluster.

        Never below that of independent rows, since with few clusters the sum over pairs may be.
        """
        psi = np.asarray(influence, dtype=np.float64)
        terms = []
        for table in dict.fromkeys(self.tables):
            terms.append([*_shared(self.factors[[t == table for t in self.tables]]), None])
        total = np.zeros(psi.shape[1])
        for chosen in product(*terms):  # the tables of an intersection, and a labelling of each
            picked = [term for term in chosen if term is not None]
            if picked:
                sign = -((-1.0) ** len(picked)) * float(np.prod([sign for sign, _ in picked]))
                labels = [np.concatenate(each) for each in product(*(labels for _, labels in picked))]
                total += sign * _square_of_sums(psi, labels)
        bounded: Array = np.maximum(total, np.square(psi).sum(axis=0))
        return bounded


def _shared(factors: Index) -> list[tuple[float, list[Index]]]:
    """Labellings of rows by clusters of one table, with signs, from factors (F, n): summed over them, the pairs of rows
    with an equal label are the pairs that share a cluster, each once. A label (r, n) with a -1 in it is none.

    With sets of clusters A and B of two rows, 1[A meets B] is the alternating sum over r of the number of sets of r
    clusters that both hold.
    """
    apart = np.sort(factors, axis=0)
    apart[1:][apart[1:] == apart[:-1]] = -1  # a cluster that two factors name is one
    apart = np.sort(apart, axis=0)
    sizes = range(1, len(factors) + 1)
    return [(-((-1.0) ** r), [apart[list(chosen)] for chosen in combinations(range(len(factors)), r)]) for r in sizes]


def _square_of_sums(psi: Array, labels: Sequence[Index]) -> Array:
    """Sum over labels of the squared sum of the rows that bear it: psi (n, k) to (k,).

    Each of `labels` is (r, n), and so a row bears several; those with a -1 are none.
    """
    together = np.concatenate(labels, axis=1)
    code = np.zeros(together.shape[1], dtype=np.intp)
    for part in together:
        names, number = np.unique(part, return_inverse=True)
        _, code = np.unique(code * len(names) + number.reshape(-1), return_inverse=True)
        code = code.reshape(-1)
    rows = np.tile(np.arange(len(psi)), len(labels))
    kept = (together >= 0).all(axis=0)
    sums = [np.bincount(code[kept], column[rows[kept]]) for column in psi.T]
    return np.array([np.square(each).sum() for each in sums])


def _cell_weights(
    cells: Index, sizes: dict[int, int], tables: tuple[int, ...], resamples: int, rng: np.random.Generator, width: int
) -> Iterator[Array]:
    step = max(1, BUDGET // max(width, *sizes.values(), 1))
    for start in range(0, resamples, step):
        r = min(step, resamples - start)
        drawn = {table: _multinomial(r, size, rng) for table, size in sizes.items()}
        whole = [(f, t) for f, t in zip(cells, tables, strict=True) if (f >= 0).all()]
        product: Array = drawn[whole[0][1]][:, whole[0][0]] if whole else np.ones((r, cells.shape[1]))
        for factor, table in whole[1:]:
            product *= drawn[table][:, factor]
        for factor, table in zip(cells, tables, strict=True):
            touched = factor >= 0
            if not touched.all():
                product[:, touched] *= drawn[table][:, factor[touched]]
        yield product


def _multinomial(resamples: int, clusters: int, rng: np.random.Generator) -> Array:
    """How often each cluster is drawn when `clusters` are drawn with replacement: (resamples, clusters)."""
    drawn = rng.integers(0, clusters, size=(resamples, clusters)) + clusters * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * clusters).reshape(resamples, clusters).astype(np.float64)


def interval(draws: npt.ArrayLike, level: float = 0.95, clusters: int | None = None) -> list[float] | None:
    """[lower, upper] percentiles of the resampled values; None where fewer than two of them are finite.

    With `clusters`, the number that was resampled, the percentiles are those of `tail`.
    """
    values = np.asarray(draws, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    outside = tail(level, clusters)
    lower, upper = np.quantile(values, [outside, 1 - outside])
    return [float(lower), float(upper)]


def share_interval(mean: float, draws: npt.ArrayLike, clusters: int, level: float = 0.95) -> list[float] | None:
    """`interval` of a share of right and wrong, which resampling cannot widen where all are right, or all wrong.

    There it is Clopper and Pearson's (1934) with the clusters as the trials: 1 - (1 - q)^{1/C} from the end, with
    q = (1 + level) / 2.
    """
    found = interval(draws, level, clusters)
    if found is None or found[0] != found[1] or mean not in (0.0, 1.0):
        return found
    beyond = 1 - ((1 - level) / 2) ** (1 / clusters)
    return [0.0, beyond] if mean == 0 else [1 - beyond, 1.0]


def tail(level: float = 0.95, clusters: int | None = None) -> float:
    """Share of the draws to leave out on either side: (1 - level) / 2, or less where few clusters were resampled.

    Resampling C clusters gives a variance that is short by (C - 1) / C and normal tails where Student's are due; the
    percentile is expanded to Phi(-sqrt(C / (C - 1)) t_{C-1}), Hesterberg 2015 ("What teachers should know about the
    bootstrap", section 5.1).
    """
    outside = (1 - level) / 2
    if clusters is None or clusters < 2:
        return outside
    from scipy.special import ndtr, stdtrit

    return float(ndtr(np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, outside)))


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Array:
    """Numerator / denominator, nan where the denominator is 0 (a resample without any row that counts)."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    quotient: Array = np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom != 0)
    return quotient
