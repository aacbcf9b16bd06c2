// The sparse_conv2d kernels, compiled once per instruction set (cpu/simd.h): no std:: here.
//
// Vectors narrower than sixteen images take whole positions in small tiles, and go over the images of an
// output in several passes in larger ones. Row pointers are advanced and hidden from the compiler
// (RP_OPAQUE): it would otherwise keep one register per row and spill (10-25 % slower).
#include "cpu/simd.h"
#include "ops/sparse_conv2d/sparse_conv2d.h"
#include "ops/store_tile.h"

namespace rp {
namespace RP_ISA {
namespace {

// Of the registers: one holds the broadcast weight; the two-operand multiply-add of the portable build needs
// one for the product. wgrad holds four sums beside the tile, of narrow vectors two.
constexpr int kGatherPositions = kRegisters == 32 ? 28 : 14;
constexpr int kWgradPositions = kRegisters == 32 ? 24 : kLanes == 8 ? 14 : 12;
// gather_dot holds sums and `with` of each position; wide vectors only.
constexpr int kDotPositions = kLanes == 16 && kRegisters == 32 ? 12 : 0;
constexpr int kAddAhead = 3;  // outputs whose sums are to be added are fetched so far ahead
constexpr int kLine = 64;     // bytes of one position: sixteen images

// ---- list rows

template <int kFrom, int kTo>
struct TileRows {
  static constexpr int from = kFrom, to = kTo;
};

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};

#define RP_INLINED __attribute__((always_inline))

// visit(rows of the tile, begin, end) for the entries of a list row up to `end`, by their row kinds.
template <int kHeight, bool kCut, class Args, class Visit>
RP_INLINE void for_each_range(const Args& args, int row, const int32_t* list, const int32_t* end,
                              const Visit& visit) {
  if constexpr (!kCut) {
    visit(TileRows<0, kHeight>(), list, end);
    return;
  }
  const int32_t* above = args.above != RowCut::none ? list + args.splits[2 * row] : list;
  const int32_t* below = args.below != RowCut::none ? list + args.splits[2 * row + 1] : end;
  if constexpr (kHeight > 1) {
    if (args.above == RowCut::edge) visit(TileRows<1, kHeight>(), list, above);
  }
  visit(TileRows<0, kHeight>(), above, below);
  if constexpr (kHeight > 1) {
    if (args.below == RowCut::edge) visit(TileRows<0, kHeight - 1>(), below, end);
  }
}

// ---- gather

// Where a walk over list rows is.
struct ListCursor {
  const int32_t* at;
  const float* weights;
};

// The entries up to `end`, for rows [kFrom, kTo) of the tile; their offsets count from its row kFrom. Of
// several outputs each has a weight, and an input is loaded once for all. Offsets are read some entries
// early: a list read among the loads of x would wait for those before it, and those after it for the list (up
// to a third slower). A turn of the loop takes as many entries as are under way, so that none moves from
// register to register, and may end behind each (docs/decisions/0084).
template <int kWidth, int kStep, int kVectors, int kOutputs, int kFrom, int kTo, int kTile>
RP_INLINE void gather_entries(ListCursor& cursor, const int32_t* end, const char* x, int64_t x_row,
                              Vec (*sum)[kTile]) {
  constexpr int kAhead = kLanes == 16 ? 4 : 2;  // more pays where one pass takes all images
  constexpr int kTurn = kAhead + 1;
  static_assert(kAhead <= kListAhead);
  int64_t left = end - cursor.at;
  if (left <= 0) return;
  const char* at[kTurn];
#pragma GCC unroll 4
  for (int k = 0; k < kAhead; k++) at[k] = x + (cursor.at[k] & kOffsetMask);
  for (;;) {
#pragma GCC unroll 5
    for (int e = 0; e < kTurn; e++) {
      const char* p = at[e];
      const char*& ahead = at[(e + kAhead) % kTurn];
      ahead = x + (cursor.at[e + kAhead] & kOffsetMask);
      RP_OPAQUE(ahead);
      Vec w[kOutputs];
#pragma GCC unroll 2
      for (int k = 0; k < kOutputs; k++) w[k] = broadcast(cursor.weights[e * kOutputs + k]);
#pragma GCC unroll 16
      for (int h = kFrom; h < kTo; h++) {
#pragma GCC unroll 16
        for (int c = 0; c < kWidth; c++) {
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; v++) {
            const int s = (h * kWidth + c) * kVectors + v;
            Vec xv = load(reinterpret_cast<const float*>(p + c * kStep * kLine) + v * kLanes);
            if (kOutputs > 1) keep(xv);
#pragma GCC unroll 2
            for (int k = 0; k < kOutputs; k++) sum[k][s] = fmadd(w[k], xv, sum[k][s]);
          }
        }
        if (h + 1 < kTo) {
          p += x_row;
          RP_OPAQUE(p);
        }
      }
      if (--left == 0) {
        cursor.at += e + 1;
        cursor.weights += (e + 1) * kOutputs;
        return;
      }
    }
    cursor.at += kTurn;
    cursor.weights += kTurn * kOutputs;
  }
}

// A list row up to `end`, whose entries have a weight for each of kOutputs outputs.
template <int kHeight, int kWidth, int kStep, int kVectors, int kOutputs, bool kCut, int kTile>
RP_INLINE void gather_row(const SparseGatherArgs& args, int row, ListCursor& cursor, const int32_t* end,
                          const char* x, Vec (*sum)[kTile]) {
  if constexpr (!kCut) {
    gather_entries<kWidth, kStep, kVectors, kOutputs, 0, kHeight>(cursor, end, x, args.x_row, sum);
    return;
  }
  const int32_t* const list = cursor.at;
  const auto skip_to = [&](const int32_t* to) {
    cursor.weights += (to - cursor.at) * kOutputs;
    cursor.at = to;
  };
  const int32_t* above = args.above != RowCut::none ? list + args.splits[2 * row] : list;
  const int32_t* below = args.below != RowCut::none ? list + args.splits[2 * row + 1] : end;
  if constexpr (kHeight > 1) {
    if (args.above == RowCut::edge)
      gather_entries<kWidth, kStep, kVectors, kOutputs, 1, kHeight>(cursor, above, x + args.x_row, args.x_row,
                                                                    sum);
  }
  skip_to(above);
  gather_entries<kWidth, kStep, kVectors, kOutputs, 0, kHeight>(cursor, below, x, args.x_row, sum);
  if constexpr (kHeight > 1) {
    if (args.below == RowCut::edge)
      gather_entries<kWidth, kStep, kVectors, kOutputs, 0, kHeight - 1>(cursor, end, x, args.x_row, sum);
  }
  skip_to(end);
}

// The sums of an output's tile, kVectors a position, to y, or beside those of the channel blocks so far.
template <int kHeight, int kWidth, int kVectors, bool kLast>
RP_INLINE void put_sums(const SparseGatherArgs& args, Vec* sum, int output, int lane) {
  constexpr int kTile = kHeight * kWidth, kSums = kTile * kVectors;
  const auto partial_of = [&](int s) {
    return args.partial + (int64_t{output} * kTile * 16 + lane) + s / kVectors * 16 + s % kVectors * kLanes;
  };
  if (!(args.flags & kFirstBlock)) {
#pragma GCC unroll 32
    for (int s = 0; s < kSums; s++) sum[s] = sum[s] + load(partial_of(s));
  }
  if (!kLast) {
#pragma GCC unroll 32
    for (int s = 0; s < kSums; s++) store(partial_of(s), sum[s]);
    return;
  }
  if (args.sums.sums != nullptr) sum_tile<kHeight, kWidth, kVectors>(sum, args.sums, output, lane);
  store_tile<kHeight, kWidth, kVectors>(sum, args.y + output * args.y_channel + lane * 4, args.y_row,
                                        args.y_col, args.flags);
}

template <int kHeight, int kWidth, int kStep, int kOutputs, bool kCut, bool kLast>
__attribute__((noinline)) void gather_outputs(const SparseGatherArgs& call) {
  const SparseGatherArgs args = call;  // what no store can change
  constexpr int kTile = kHeight * kWidth;
  constexpr int kVectors = vectors_of_position(kTile * kOutputs, kGatherPositions);
  constexpr int kSums = kTile * kVectors;
  constexpr int kRows = kOutputs == 1 ? 1 : 3;
  const uint32_t flags = args.flags;
  const bool first = flags & kFirstBlock;
  const int64_t y_row = args.y_row, y_col = args.y_col, y_channel = args.y_channel;
  char* y = args.y;
  const int32_t* ends = args.ends;
  ListCursor cursor = {args.list + ends[0], args.weights};
  PrefetchCursor next(args.next, args.next_count, (args.outputs + kOutputs - 1) / kOutputs);
  for (int o = 0, row = 0; o < args.outputs; o += kOutputs, row += kRows) {
    const int outputs = kOutputs == 1 || o + 1 == args.outputs ? 1 : kOutputs;
    next.step();
    if (kLast && (flags & kAddOut)) {
      for (int k = o + kAddAhead; k < o + kAddAhead + kOutputs && k < args.outputs; k++)
        prefetch_tile<kHeight, kWidth>(y + k * y_channel, y_row, y_col);
    }
    const int32_t* const end = args.list + ends[row + 1];
    if (cursor.at == args.list + ends[row + kRows] && !first && !kLast) continue;
    ListCursor behind = cursor;
    for (int lane = 0; lane < 16; lane += kLanes * kVectors) {
      Vec sum[kOutputs][kSums];
#pragma GCC unroll 2
      for (int k = 0; k < kOutputs; k++) {
#pragma GCC unroll 32
        for (int s = 0; s < kSums; s++) sum[k][s] = zero();
      }
      const char* x = args.x + lane * 4;
      behind = cursor;
      gather_row<kHeight, kWidth, kStep, kVectors, kOutputs, kCut>(args, row, behind, end, x, sum);
      if constexpr (kOutputs == 2) {
        gather_row<kHeight, kWidth, kStep, kVectors, 1, kCut>(args, row + 1, behind,
                                                              args.list + ends[row + 2], x, sum);
        gather_row<kHeight, kWidth, kStep, kVectors, 1, kCut>(args, row + 2, behind,
                                                              args.list + ends[row + 3], x, sum + 1);
      }
#pragma GCC unroll 2
      for (int k = 0; k < kOutputs; k++) {
        if (k < outputs) put_sums<kHeight, kWidth, kVectors, kLast>(args, sum[k], o + k, lane);
      }
    }
    cursor = behind;
  }
}

// Most tiles meet no border: without what borders cut away, 2 to 8 % faster. And of several channel blocks
// only the last writes y: without that, up to 14 % (docs/decisions/0081).
template <int kHeight, int kWidth, int kStep, int kOutputs>
void gather(const SparseGatherArgs& args) {
  if (args.flags & kLastBlock) {
    if (args.above != RowCut::none || args.below != RowCut::none)
      return gather_outputs<kHeight, kWidth, kStep, kOutputs, true, true>(args);
    return gather_outputs<kHeight, kWidth, kStep, kOutputs, false, true>(args);
  }
  if (args.above != RowCut::none || args.below != RowCut::none)
    return gather_outputs<kHeight, kWidth, kStep, kOutputs, true, false>(args);
  gather_outputs<kHeight, kWidth, kStep, kOutputs, false, false>(args);
}

// ---- wgrad

// What a pass over the list leaves of each nonzero: wide vectors sum four nonzeros' lanes as they go, narrow
// ones keep their lanes until the output's last, as dy takes all registers.
constexpr int kLaneSums = kLanes == 16 ? 0 : kLanes;

// kCount nonzeros, whose x begins at now[k]. Each has several chains of sums: a multiply-add waits for the
// one before it, and two units want eight to choose from.
template <int kWidth, int kStep, int kFrom, int kTo, int kCount>
RP_INLINE void wgrad_nonzeros(const char* const* now, int64_t x_row, const Vec* dy, float* sums) {
  constexpr int kPositionCount = (kTo - kFrom) * kWidth;
  constexpr int kMostChains = kCount > 2 ? 2 : 4;
  constexpr int kChains = kPositionCount < 2 * kMostChains ? 1 : kMostChains;
  Vec sum[kChains][kCount];
  const char* p[kCount];
#pragma GCC unroll 4
  for (int k = 0; k < kCount; k++) p[k] = now[k];
#pragma GCC unroll 16
  for (int h = kFrom; h < kTo; h++) {
#pragma GCC unroll 16
    for (int c = 0; c < kWidth; c++) {
      const int i = (h - kFrom) * kWidth + c, chain = i % kChains;
#pragma GCC unroll 4
      for (int k = 0; k < kCount; k++) {
        const Vec xv = load(reinterpret_cast<const float*>(p[k] + c * kStep * kLine));
        const Vec d = dy[h * kWidth + c];
        sum[chain][k] = i < kChains ? d * xv : fmadd(d, xv, sum[chain][k]);
      }
    }
    if (h + 1 < kTo) {
#pragma GCC unroll 4
      for (int k = 0; k < kCount; k++) {
        p[k] += x_row;
        RP_OPAQUE(p[k]);
      }
    }
  }
  Vec four[4];  // beyond kCount: zeros, added to the sums that follow
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) {
    four[k] = k < kCount ? sum[0][k < kCount ? k : 0] : zero();
    if (k >= kCount) continue;
#pragma GCC unroll 4
    for (int chain = 1; chain < kChains; chain++) four[k] = four[k] + sum[chain][k];
  }
  add_lane_sums(sums, four);
}

// The entries of [list, end), for rows [kFrom, kTo) of the tile. As in gather_entries, the list is read
// early.
template <int kWidth, int kStep, int kFrom, int kTo>
RP_INLINE void wgrad_range(const char* x, int64_t x_row, const Vec* dy, const int32_t* list,
                           const int32_t* end, float* sums) {
  static_assert(kListAhead >= 7);
  const char* now[4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) now[k] = x + (list[k] & kOffsetMask);
#pragma GCC unroll 1
  for (; list + 4 <= end; list += 4, sums += 4) {
    const char* next[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      next[k] = x + (list[4 + k] & kOffsetMask);
      RP_OPAQUE(next[k]);
    }
    wgrad_nonzeros<kWidth, kStep, kFrom, kTo, 4>(now, x_row, dy, sums);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) now[k] = next[k];
  }
  switch (end - list) {
    case 3:
      wgrad_nonzeros<kWidth, kStep, kFrom, kTo, 3>(now, x_row, dy, sums);
      break;
    case 2:
      wgrad_nonzeros<kWidth, kStep, kFrom, kTo, 2>(now, x_row, dy, sums);
      break;
    case 1:
      wgrad_nonzeros<kWidth, kStep, kFrom, kTo, 1>(now, x_row, dy, sums);
      break;
    default:
      break;
  }
}

// The same of narrow vectors: each nonzero's lanes to, or added to, [list, end)[kLanes]; kTurn a turn of the
// loop, as if there were a multiple of it.
template <int kWidth, int kStep, int kVectors, int kFrom, int kTo, bool kAdd, int kTurn>
RP_INLINE void wgrad_lanes(const char* x, int64_t x_row, const Vec* dy, const int32_t* list,
                           const int32_t* end, float* lanes) {
  constexpr int kSums = (kTo - kFrom) * kWidth * kVectors, kChains = kSums < 4 ? 1 : 2;
  static_assert(2 * kTurn <= kListAhead);
  const char* at[kTurn];
#pragma GCC unroll 4
  for (int e = 0; e < kTurn; e++) at[e] = x + (list[e] & kOffsetMask);
#pragma GCC unroll 1
  for (; list < end; list += kTurn, lanes += kTurn * kLanes) {
#pragma GCC unroll 4
    for (int e = 0; e < kTurn; e++) {
      const char* p = at[e];
      at[e] = x + (list[kTurn + e] & kOffsetMask);
      RP_OPAQUE(at[e]);
      Vec sum[kChains];
#pragma GCC unroll 16
      for (int h = kFrom; h < kTo; h++) {
#pragma GCC unroll 16
        for (int i = 0; i < kWidth * kVectors; i++) {
          const int nth = (h - kFrom) * kWidth * kVectors + i, chain = nth % kChains;
          const int c = i / kVectors, v = i % kVectors;
          const Vec xv = load(reinterpret_cast<const float*>(p + c * kStep * kLine) + v * kLanes);
          const Vec d = dy[h * kWidth * kVectors + i];
          sum[chain] = nth < kChains ? d * xv : fmadd(d, xv, sum[chain]);
        }
        if (h + 1 < kTo) {
          p += x_row;
          RP_OPAQUE(p);
        }
      }
      if (kChains > 1) sum[0] = sum[0] + sum[kChains - 1];
      float* const to = lanes + e * kLanes;
      store(to, kAdd ? load(to) + sum[0] : sum[0]);
    }
  }
}

// dy of a tile's positions, kVectors vectors of each, the images from `from` on.
template <int kHeight, int kWidth, int kVectors>
RP_INLINE void load_dy(const char* from, int64_t dy_row, Vec* dy) {
#pragma GCC unroll 16
  for (int h = 0; h < kHeight; h++) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth * kVectors; i++) {
      Vec& d = dy[h * kWidth * kVectors + i];
      d = load(reinterpret_cast<const float*>(from + i / kVectors * kLine) + i % kVectors * kLanes);
      keep(d);
    }
    from += dy_row;
    RP_OPAQUE(from);
  }
}

// One output's nonzeros, of wide vectors: sums of the entries [list, end) of list row `row`.
template <int kHeight, int kWidth, int kStep, bool kCut>
RP_INLINE void wgrad_row(const SparseWgradArgs& args, int row, const int32_t* list, const int32_t* end,
                         const Vec* dy, float* sums) {
  const int64_t x_row = args.x_row;
  for_each_range<kHeight, kCut>(args, row, list, end,
                                [&](auto rows, const int32_t* from, const int32_t* to) RP_INLINED {
                                  wgrad_range<kWidth, kStep, rows.from, rows.to>(
                                      args.x + rows.from * x_row, x_row, dy, from, to, sums + (from - list));
                                });
}

// Of narrow vectors: list row `row` in one pass over the images, or in several.
template <int kHeight, int kWidth, int kStep, bool kCut>
RP_INLINE void wgrad_row_of_lanes(const SparseWgradArgs& args, int row, const int32_t* list,
                                  const int32_t* end, const char* dy_of_row, float* sums) {
  constexpr int kVectors = vectors_of_position(kHeight * kWidth, kWgradPositions);
  const int64_t x_row = args.x_row;
  const int64_t count = end - list;
  float* const lanes = args.lanes;
  constexpr int kTurn = kCut ? 1 : 2;
  // Rows that are cut visit not every nonzero.
  for (int64_t j = 0; kCut && j < count; j++) store(lanes + j * kLanes, zero());
  for (int lane = 0; lane < 16; lane += kLanes * kVectors) {
    Vec dy[kHeight * kWidth * kVectors];
    load_dy<kHeight, kWidth, kVectors>(dy_of_row + lane * 4, args.dy_row, dy);
    const char* x = args.x + lane * 4;
    const auto visit = [&](auto add) RP_INLINED {
      for_each_range<kHeight, kCut>(
          args, row, list, end, [&](auto rows, const int32_t* from, const int32_t* to) RP_INLINED {
            wgrad_lanes<kWidth, kStep, kVectors, rows.from, rows.to, decltype(add)::value, kTurn>(
                x + rows.from * x_row, x_row, dy, from, to, lanes + (from - list) * kLanes);
          });
    };
    if (kCut || lane > 0) {
      visit(Flag<true>());
    } else {
      visit(Flag<false>());
    }
  }
  // Four are summed together: behind the last, zeros.
#pragma GCC unroll 3
  for (int j = 0; j < 3; j++) store(lanes + (count + j) * kLanes, zero());
#pragma GCC unroll 1
  for (int64_t j = 0; j < count; j += 4) {
    Vec four[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) four[k] = load(lanes + (j + k) * kLanes);
    add_lane_sums(sums + j, four);
  }
}

template <int kHeight, int kWidth, int kStep, int kTogether, bool kCut>
__attribute__((noinline)) void wgrad_outputs(const SparseWgradArgs& call) {
  const SparseWgradArgs args = call;  // what no store can change
  float* first_sum = args.sums;
  PrefetchCursor next(args.next, 2, args.outputs);
  const int32_t* list = args.list + args.ends[0];
  for (int o = 0; o < args.outputs; o++) {
    next.step();
    // The next output's dy, before its multiply-adds wait for it.
    prefetch_tile_to_read<kHeight, kWidth>(args.dy + (o + 1) * args.dy_channel, args.dy_row, kLine);
    // Of a pair: what both outputs keep, then what this one keeps alone.
    const int row = kTogether == 1 ? o : o / 2 * 3, alone = row + 1 + o % 2;
    if (kTogether == 2) list = args.list + args.ends[row];
    const int32_t* const end = args.list + args.ends[row + 1];
    int64_t nonzeros = end - list;
    if (kTogether == 2) nonzeros += args.ends[alone + 1] - args.ends[alone];
    if (nonzeros == 0) continue;
    const char* const from = args.dy + o * args.dy_channel;
    if constexpr (kLaneSums > 0) {
      wgrad_row_of_lanes<kHeight, kWidth, kStep, kCut>(args, row, list, end, from, first_sum);
    } else {
      Vec dy[kHeight * kWidth];
      load_dy<kHeight, kWidth, 1>(from, args.dy_row, dy);
      wgrad_row<kHeight, kWidth, kStep, kCut>(args, row, list, end, dy, first_sum);
      if (kTogether == 2) {
        wgrad_row<kHeight, kWidth, kStep, kCut>(args, alone, args.list + args.ends[alone],
                                                args.list + args.ends[alone + 1], dy,
                                                first_sum + (end - list));
      }
    }
    first_sum += nonzeros;
    list = end;
  }
}

template <int kHeight, int kWidth, int kStep, int kTogether>
void wgrad(const SparseWgradArgs& args) {
  if (args.above != RowCut::none || args.below != RowCut::none)
    return wgrad_outputs<kHeight, kWidth, kStep, kTogether, true>(args);
  wgrad_outputs<kHeight, kWidth, kStep, kTogether, false>(args);
}

void fence() { stream_fence(); }

// ---- gather with dots

// kCount nonzeros, one after another: the sums of an output and `with` take the registers. Of their dots the
// lanes are summed together.
template <int kWidth, int kFrom, int kTo, int kCount>
RP_INLINE void dot_nonzeros(const char* const* now, const float* weights, int64_t x_row, const Vec* with,
                            Vec* sum, float* dots) {
  Vec four[4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) {
    four[k] = zero();
    if (k >= kCount) continue;
    const char* p = now[k];
    const Vec weight = broadcast(weights[k]);
#pragma GCC unroll 16
    for (int h = kFrom; h < kTo; h++) {
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++) {
        const int s = h * kWidth + c;
        Vec xv = load(reinterpret_cast<const float*>(p + c * kLine));
        keep(xv);
        sum[s] = fmadd(weight, xv, sum[s]);
        four[k] = h == kFrom && c == 0 ? with[s] * xv : fmadd(with[s], xv, four[k]);
      }
      if (h + 1 < kTo) {
        p += x_row;
        RP_OPAQUE(p);
      }
    }
    keep(four[k]);
  }
  if (kCount == 4) return add_lane_sums(dots, four);
  // What follows may be another thread's.
  float sums[4] = {};
  add_lane_sums(sums, four);
#pragma GCC unroll 4
  for (int k = 0; k < kCount; k++) dots[k] += sums[k];
}

// The entries of [list, end), for rows [kFrom, kTo) of the tile, as in wgrad_range.
template <int kWidth, int kFrom, int kTo>
RP_INLINE void dot_range(const char* x, int64_t x_row, const Vec* with, const int32_t* list,
                         const int32_t* end, const float* weights, Vec* sum, float* dots) {
  const char* now[4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) now[k] = x + (list[k] & kOffsetMask);
#pragma GCC unroll 1
  for (; list + 4 <= end; list += 4, weights += 4, dots += 4) {
    const char* next[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      next[k] = x + (list[4 + k] & kOffsetMask);
      RP_OPAQUE(next[k]);
    }
    dot_nonzeros<kWidth, kFrom, kTo, 4>(now, weights, x_row, with, sum, dots);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) now[k] = next[k];
  }
  switch (end - list) {
    case 3:
      dot_nonzeros<kWidth, kFrom, kTo, 3>(now, weights, x_row, with, sum, dots);
      break;
    case 2:
      dot_nonzeros<kWidth, kFrom, kTo, 2>(now, weights, x_row, with, sum, dots);
      break;
    case 1:
      dot_nonzeros<kWidth, kFrom, kTo, 1>(now, weights, x_row, with, sum, dots);
      break;
    default:
      break;
  }
}

// A list row.
template <int kHeight, int kWidth, bool kCut>
RP_INLINE void dot_row(const SparseGatherArgs& args, int row, const int32_t* list, const int32_t* end,
                       const float* weights, const Vec* with, Vec* sum, float* dots) {
  for_each_range<kHeight, kCut>(
      args, row, list, end, [&](auto rows, const int32_t* from, const int32_t* to) RP_INLINED {
        dot_range<kWidth, rows.from, rows.to>(args.x + rows.from * args.x_row, args.x_row, with, from, to,
                                              weights + (from - list), sum, dots + (from - list));
      });
}

template <int kHeight, int kWidth, bool kCut, bool kLast>
__attribute__((noinline)) void gather_dot_outputs(const SparseGatherArgs& call) {
  const SparseGatherArgs args = call;  // what no store can change
  constexpr int kTile = kHeight * kWidth;
  PrefetchCursor next(args.next, args.next_count, args.outputs);
  const int32_t* const begin = args.list + args.ends[0];
  const int32_t* list = begin;
  for (int o = 0; o < args.outputs; o++) {
    next.step();
    if (kLast && (args.flags & kAddOut) && o + kAddAhead < args.outputs)
      prefetch_tile<kHeight, kWidth>(args.y + (o + kAddAhead) * args.y_channel, args.y_row, args.y_col);
    // The next output's, before its multiply-adds wait for it.
    prefetch_tile_to_read<kHeight, kWidth>(args.with + (o + 1) * args.with_channel, args.with_row,
                                           args.with_col);
    const int32_t* const end = args.list + args.ends[o + 1];
    if (list == end && !(args.flags & kFirstBlock) && !kLast) continue;
    Vec sum[kTile], with[kTile];
    const char* from = args.with + o * args.with_channel;
#pragma GCC unroll 16
    for (int h = 0; h < kHeight; h++) {
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++) {
        with[h * kWidth + c] = load(reinterpret_cast<const float*>(from + c * args.with_col));
        keep(with[h * kWidth + c]);
        sum[h * kWidth + c] = zero();
      }
      from += args.with_row;
      RP_OPAQUE(from);
    }
    dot_row<kHeight, kWidth, kCut>(args, o, list, end, args.weights + (list - begin), with, sum,
                                   args.dots + (list - begin));
    list = end;
    put_sums<kHeight, kWidth, 1, kLast>(args, sum, o, 0);
  }
}

template <int kHeight, int kWidth>
void gather_dot(const SparseGatherArgs& args) {
  const bool cut = args.above != RowCut::none || args.below != RowCut::none;
  if (args.flags & kLastBlock)
    return cut ? gather_dot_outputs<kHeight, kWidth, true, true>(args)
               : gather_dot_outputs<kHeight, kWidth, false, true>(args);
  cut ? gather_dot_outputs<kHeight, kWidth, true, false>(args)
      : gather_dot_outputs<kHeight, kWidth, false, false>(args);
}

// ---- choice by tile

// Pairs of wide vectors only: narrow ones have no registers to spare.
template <int kHeight, int kWidth, int kStep>
SparseGather gather_of(int together) {
  if constexpr (kHeight * kWidth * 2 <= kGatherPositions && kLanes == 16) {
    if (together == 2) return gather<kHeight, kWidth, kStep, 2>;
  }
  if constexpr (kHeight * kWidth <= kGatherPositions) {
    if (together == 1) return gather<kHeight, kWidth, kStep, 1>;
  }
  return nullptr;
}

template <int kHeight, int kWidth, int kStep>
SparseWgrad wgrad_of(int together) {
  if constexpr (kHeight * kWidth <= kWgradPositions) {
    if (together == 1) return wgrad<kHeight, kWidth, kStep, 1>;
    if constexpr (kLanes == 16) return wgrad<kHeight, kWidth, kStep, 2>;
  }
  return nullptr;
}

template <int kHeight, int kWidth>
SparseGather gather_dot_of() {
  if constexpr (kHeight * kWidth <= kDotPositions) return gather_dot<kHeight, kWidth>;
  return nullptr;
}

SparseGather find_gather_dot(int height, int width) {
#define TILE(h, w) \
  if (height == h && width == w) return gather_dot_of<h, w>();
#include "ops/sparse_conv2d/tiles.inc"
#undef TILE
  return nullptr;
}

SparseGather find_gather(int height, int width, int x_step, int together) {
#define TILE(h, w)                                                                      \
  if (height == h && width == w) {                                                      \
    if (w == 1 || x_step == 1) return gather_of<h, w, 1>(together);                     \
    return x_step == 2 && w > 1 ? gather_of<h, w, (w > 1 ? 2 : 1)>(together) : nullptr; \
  }
#include "ops/sparse_conv2d/tiles.inc"
#undef TILE
  return nullptr;
}

SparseWgrad find_wgrad(int height, int width, int x_step, int together) {
#define TILE(h, w)                                                                     \
  if (height == h && width == w) {                                                     \
    if (w == 1 || x_step == 1) return wgrad_of<h, w, 1>(together);                     \
    return x_step == 2 && w > 1 ? wgrad_of<h, w, (w > 1 ? 2 : 1)>(together) : nullptr; \
  }
#include "ops/sparse_conv2d/tiles.inc"
#undef TILE
  return nullptr;
}

}  // namespace

const SparseConvKernels& sparse_conv_kernels() {
  static const SparseConvKernels kernels = {kLanes,          kGatherPositions, kLaneSums, find_gather,
                                            find_gather_dot, find_wgrad,       fence};
  return kernels;
}

}  // namespace RP_ISA
}  // namespace rp
