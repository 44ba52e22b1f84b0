// DEKR's adaptive block (Geng et al., CVPR 2021, Sec. 3.2) in one pass over channels-last maps: adaptive 3x3 convolution
// with the norm folded into it, the input added, ReLU. Built by posecli/models/compiled.py, which gives
//   CHANNELS  channels of a joint's branch, 1 to 16
//   LANES     the power of two from CHANNELS on
// A joint's channels of one pixel are one vector: each corner of a bilinear sample is a single load. The nine taps of a
// pixel are the lanes of another: positions, weights and indices of all taps are computed together.

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr int kTaps = 9, kPadded = 16, kTogether = 8;

typedef float Floats __attribute__((vector_size(kPadded * 4)));
typedef int32_t Ints __attribute__((vector_size(kPadded * 4)));
typedef float Values __attribute__((vector_size(LANES * 4)));

inline Values load(const float* from) {
#if defined(__AVX512F__) && LANES == 16 && CHANNELS < 16
    return (Values)_mm512_maskz_loadu_ps((1u << CHANNELS) - 1, from);
#else
    Values out = {};
    std::memcpy(&out, from, CHANNELS * sizeof(float));
    return out;
#endif
}

inline void store(float* to, Values values) {
#if defined(__AVX512F__) && LANES == 16 && CHANNELS < 16
    _mm512_mask_storeu_ps(to, (1u << CHANNELS) - 1, (__m512)values);
#else
    std::memcpy(to, &values, CHANNELS * sizeof(float));
#endif
}

inline Floats all(float value) { return value - Floats{}; }
inline Ints all(int32_t value) { return value - Ints{}; }
inline Floats choose(Ints mask, Floats yes) { return (Floats)(mask & (Ints)yes); }

// dy and dx of the taps in row-major order.
const Floats kDown = {-1, -1, -1, 0, 0, 0, 1, 1, 1};
const Floats kRight = {-1, 0, 1, -1, 0, 1, -1, 0, 1};

struct Axis {
    Ints low, high;          // neighbours, moved into the map where they lie outside
    Floats weight_low, weight_high;  // zero for those outside
};

// Neighbours of positions along an axis of a size. What lies beyond the map reads zero, as does NaN.
inline Axis neighbours(Floats at, int32_t size) {
    const Floats least = all(-1.0f), most = all((float)size);
    at = at > least ? at : least;
    at = at < most ? at : most;
    const Ints low = __builtin_convertvector(at + 1.0f, Ints) - 1;  // at + 1 >= 0: cutting off is rounding down
    const Ints high = low + 1;
    const Floats part = at - __builtin_convertvector(low, Floats);
    const Ints zero = all(0), last = all(size - 1);
    Axis axis;
    axis.weight_low = choose((low >= zero) & (low <= last), 1.0f - part);
    axis.weight_high = choose(high <= last, part);
    axis.low = low > zero ? (low < last ? low : last) : zero;
    axis.high = high < last ? high : last;
    return axis;
}

struct Corners {
    alignas(64) int32_t at[4][kPadded];
    alignas(64) float weight[4][kPadded];
};

// Where the taps of a pixel read: geometry is a_yy a_yx a_xy a_xx t_y t_x. Indices are pixels of the map.
inline void corners_of(const float* geometry, int row, int column, int height, int width, Corners& out) {
    const Axis y = neighbours((row + geometry[4]) + (kDown * geometry[0] + kRight * geometry[1]), height);
    const Axis x = neighbours((column + geometry[5]) + (kDown * geometry[2] + kRight * geometry[3]), width);
    const Ints above = y.low * width, below = y.high * width;
    const Ints at[4] = {above + x.low, above + x.high, below + x.low, below + x.high};
    const Floats weight[4] = {y.weight_low * x.weight_low, y.weight_low * x.weight_high,
                              y.weight_high * x.weight_low, y.weight_high * x.weight_high};
    std::memcpy(out.at, at, sizeof at);
    std::memcpy(out.weight, weight, sizeof weight);
}

// kTogether (or fewer) neighbouring pixels of one joint; pointers are to the joint's part of the first map and pixel.
template <int N>
inline void block(const float* map, const float* geometry, const float* kernel, const float* shift, float* out,
                  int row, int column, int height, int width, int64_t pixel, int64_t geometry_pixel) {
    Corners corners[N];
    for (int p = 0; p < N; ++p) corners_of(geometry + p * geometry_pixel, row, column + p, height, width, corners[p]);
    Values sum[N];
    const Values start = load(shift);
    for (int p = 0; p < N; ++p) sum[p] = start;
    for (int tap = 0; tap < kTaps; ++tap) {
        alignas(64) float sampled[N][LANES];
        for (int p = 0; p < N; ++p) {
            const Corners& c = corners[p];
            Values value = load(map + c.at[0][tap] * pixel) * c.weight[0][tap];
            for (int corner = 1; corner < 4; ++corner)
                value += load(map + c.at[corner][tap] * pixel) * c.weight[corner][tap];
            std::memcpy(sampled[p], &value, sizeof value);
        }
        const float* row_of_kernel = kernel + tap * CHANNELS * LANES;
        for (int channel = 0; channel < CHANNELS; ++channel) {
            Values factor;
            std::memcpy(&factor, row_of_kernel + channel * LANES, sizeof factor);
            for (int p = 0; p < N; ++p) sum[p] += factor * sampled[p][channel];
        }
    }
    const int64_t here = (int64_t)row * width + column;
    for (int p = 0; p < N; ++p) {
        Values value = sum[p] + load(map + (here + p) * pixel);
        value = value > 0.0f ? value : Values{};
        store(out + p * pixel, value);
    }
}

}  // namespace

// x, out (batch, height, width, joints, CHANNELS); geometry (batch, height, width, joints, 6); kernel (joints, 9,
// CHANNELS in, LANES out); shift (joints, CHANNELS). All float32, dense.
extern "C" void adaptive_block(const float* x, const float* geometry, const float* kernel, const float* shift,
                               float* out, int64_t batch, int64_t height, int64_t width, int64_t joints,
                               int64_t threads) {
    const int64_t pixel = joints * CHANNELS, geometry_pixel = joints * 6;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t line = 0; line < batch * height; ++line) {
        const int64_t image = line / height, row = line % height;
        const float* map = x + image * height * width * pixel;
        for (int64_t joint = 0; joint < joints; ++joint) {
            const float* own_kernel = kernel + joint * kTaps * CHANNELS * LANES;
            const float* own_shift = shift + joint * CHANNELS;
            for (int64_t column = 0; column < width;) {
                const int64_t at = line * width + column;
                const float* from = geometry + at * geometry_pixel + joint * 6;
                float* to = out + at * pixel + joint * CHANNELS;
                const float* own_map = map + joint * CHANNELS;
                if (column + kTogether <= width) {
                    block<kTogether>(own_map, from, own_kernel, own_shift, to, row, column, height, width, pixel,
                                     geometry_pixel);
                    column += kTogether;
                } else {
                    block<1>(own_map, from, own_kernel, own_shift, to, row, column, height, width, pixel,
                             geometry_pixel);
                    ++column;
                }
            }
        }
    }
}
