// Q8_0 matrix products with AVX-512 VNNI, for ggml's processor backend.
//
// llama.cpp multiplies Q8_0 by tinyBLAS, 32 products an instruction and a horizontal sum for each result: two rows of
// activations take three times as long as one, and prompts come at a fifth of what the processor can. Here sixteen rows
// of weights are turned into columns once, which all rows of activations then use: 64 products an instruction, sixteen
// results side by side.
//
// Linked with --wrap=llamafile_sgemm (llama_trim.cmake): ggml's calls come here, and what this is not for goes on to
// llama.cpp's own. A result does not depend on how many rows there are, nor on the number of threads.

#include <cstdint>

#include "ggml-cpu-impl.h"

extern "C" bool __real_llamafile_sgemm(const struct ggml_compute_params *, int64_t, int64_t, int64_t, const void *,
                                       int64_t, const void *, int64_t, void *, int64_t, int, int, int);

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#include <immintrin.h>

#include <cstring>
#include <vector>

namespace {

constexpr int64_t ROWS = 16;   // of weights, one in each lane
constexpr int64_t GROUP = 8;   // rows of activations computed together
constexpr int64_t WORDS = 8;   // of four weights in a block

struct block {  // ggml's block_q8_0
    uint16_t scale;
    int8_t quants[32];
};
static_assert(sizeof(block) == 34, "as ggml lays it out");

struct packed {  // one block of sixteen rows
    __m512i weights[WORDS];  // plus 128, so that they are unsigned; lane: row
    __m512 scales;
};

struct meaning {  // of a block of activations
    float scale;
    int32_t correction;  // for the 128
};

inline __m128i quarter(const block * row, int64_t half) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i *>(row->quants + 16 * half));
}

inline packed pack(const block * first, int64_t stride) {
    packed out;
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
    for (int64_t half = 0; half < 2; half++) {
        __m512i four[4];
        for (int64_t at = 0; at < 4; at++) {
            __m512i rows = _mm512_castsi128_si512(quarter(first + at * stride, half));
            rows = _mm512_inserti32x4(rows, quarter(first + (at + 4) * stride, half), 1);
            rows = _mm512_inserti32x4(rows, quarter(first + (at + 8) * stride, half), 2);
            four[at] = _mm512_inserti32x4(rows, quarter(first + (at + 12) * stride, half), 3);
        }
        const __m512i a = _mm512_unpacklo_epi32(four[0], four[1]), b = _mm512_unpackhi_epi32(four[0], four[1]);
        const __m512i c = _mm512_unpacklo_epi32(four[2], four[3]), d = _mm512_unpackhi_epi32(four[2], four[3]);
        out.weights[4 * half + 0] = _mm512_xor_si512(_mm512_unpacklo_epi64(a, c), flip);
        out.weights[4 * half + 1] = _mm512_xor_si512(_mm512_unpackhi_epi64(a, c), flip);
        out.weights[4 * half + 2] = _mm512_xor_si512(_mm512_unpacklo_epi64(b, d), flip);
        out.weights[4 * half + 3] = _mm512_xor_si512(_mm512_unpackhi_epi64(b, d), flip);
    }
    const auto scale = [=](int64_t row) { return static_cast<short>(first[row * stride].scale); };
    out.scales = _mm512_cvtph_ps(_mm256_setr_epi16(scale(0), scale(1), scale(2), scale(3), scale(4), scale(5), scale(6),
                                                   scale(7), scale(8), scale(9), scale(10), scale(11), scale(12),
                                                   scale(13), scale(14), scale(15)));
    return out;
}

inline meaning meaning_of(const block & one) {
    const __m256i quants = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(one.quants));
    const __m256i sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), quants);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    return {_cvtsh_ss(one.scale), -128 * _mm_cvtsi128_si32(sum)};
}

inline __m512 add_block(__m512 total, const packed & weights, const block & activations, const meaning & of) {
    __m512i sums = _mm512_set1_epi32(of.correction);
#pragma GCC unroll 8
    for (int64_t word = 0; word < WORDS; word++) {
        int32_t four;
        std::memcpy(&four, activations.quants + 4 * word, 4);
        sums = _mm512_dpbusd_epi32(sums, weights.weights[word], _mm512_set1_epi32(four));
    }
    const __m512 scales = _mm512_mul_ps(weights.scales, _mm512_set1_ps(of.scale));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scales, total);
}

struct product {
    int64_t blocks;  // in a row
    const block * weights;
    int64_t weights_stride;  // in blocks
    const block * activations;
    int64_t activations_stride;
    const meaning * meanings;  // blocks of them for each row of activations
    float * results;
    int64_t results_stride;
};

// Sixteen rows of weights from `row` on with N rows of activations from `from` on. `panel`: those weights packed, by the
// first call (`PACKS`) for those that follow; null: nobody follows.
template <int64_t N, bool PACKS> void tile(const product & p, int64_t row, int64_t from, packed * panel) {
    __m512 totals[N];
#pragma GCC unroll 8
    for (int64_t at = 0; at < N; at++) {
        totals[at] = _mm512_setzero_ps();
    }
    const block * first = p.weights + row * p.weights_stride;
    const char * next = reinterpret_cast<const char *>(first + ROWS * p.weights_stride);
    for (int64_t k = 0; k < p.blocks; k++) {
        packed weights;
        if (PACKS) {
            // Into the second cache: two panels of a wide row are more than the first holds.
#pragma GCC unroll 9
            for (int64_t line = 0; line < ROWS * int64_t(sizeof(block)); line += 64) {
                _mm_prefetch(next + k * ROWS * int64_t(sizeof(block)) + line, _MM_HINT_T1);
            }
            weights = pack(first + k, p.weights_stride);
            if (panel != nullptr) {
                panel[k] = weights;
            }
        } else {
            weights = panel[k];
        }
#pragma GCC unroll 8
        for (int64_t at = 0; at < N; at++) {
            const int64_t column = from + at;
            totals[at] = add_block(totals[at], weights, p.activations[column * p.activations_stride + k],
                                   p.meanings[column * p.blocks + k]);
        }
    }
#pragma GCC unroll 8
    for (int64_t at = 0; at < N; at++) {
        _mm512_storeu_ps(p.results + (from + at) * p.results_stride + row, totals[at]);
    }
}

template <bool PACKS> void tiles(const product & p, int64_t row, int64_t from, int64_t count, packed * panel) {
    switch (count) {
        case 1: return tile<1, PACKS>(p, row, from, panel);
        case 2: return tile<2, PACKS>(p, row, from, panel);
        case 3: return tile<3, PACKS>(p, row, from, panel);
        case 4: return tile<4, PACKS>(p, row, from, panel);
        case 5: return tile<5, PACKS>(p, row, from, panel);
        case 6: return tile<6, PACKS>(p, row, from, panel);
        case 7: return tile<7, PACKS>(p, row, from, panel);
        default: return tile<GROUP, PACKS>(p, row, from, panel);
    }
}

// This thread's share of the rows of weights.
void multiply(product p, int64_t rows, int64_t columns, int64_t thread, int64_t threads) {
    static thread_local std::vector<meaning> meanings;
    static thread_local std::vector<packed> panel;
    meanings.resize(columns * p.blocks);
    for (int64_t column = 0; column < columns; column++) {
        for (int64_t k = 0; k < p.blocks; k++) {
            meanings[column * p.blocks + k] = meaning_of(p.activations[column * p.activations_stride + k]);
        }
    }
    panel.resize(p.blocks);
    p.meanings = meanings.data();
    const int64_t panels = rows / ROWS;
    for (int64_t at = panels * thread / threads; at < panels * (thread + 1) / threads; at++) {
        const int64_t row = at * ROWS;
        tiles<true>(p, row, 0, columns < GROUP ? columns : GROUP, columns > GROUP ? panel.data() : nullptr);
        for (int64_t from = GROUP; from < columns; from += GROUP) {
            tiles<false>(p, row, from, columns - from < GROUP ? columns - from : GROUP, panel.data());
        }
    }
}

}  // namespace

extern "C" bool __wrap_llamafile_sgemm(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k,
                                       const void * a, int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc,
                                       int a_type, int b_type, int c_type) {
    if (a_type != GGML_TYPE_Q8_0 || b_type != GGML_TYPE_Q8_0 || c_type != GGML_TYPE_F32 || m % ROWS != 0) {
        return __real_llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
    }
    const product p = {k,   static_cast<const block *>(a), lda, static_cast<const block *>(b), ldb, nullptr,
                       static_cast<float *>(c), ldc};
    multiply(p, m, n, params->ith, params->nth);
    return true;
}

#else

extern "C" bool __wrap_llamafile_sgemm(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k,
                                       const void * a, int64_t lda, const void * b, int64_t ldb, void * c, int64_t ldc,
                                       int a_type, int b_type, int c_type) {
    return __real_llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}

#endif
