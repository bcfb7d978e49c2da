/* libxsmm as a rival: c (m, n) = a (m, k) times b (k, n), all row-major float32.
 *
 * xsmm_dense and xsmm_sparse return a state for xsmm_dense_run and xsmm_sparse_run, or NULL; a
 * state lives as long as the process and points at b and c. libxsmm is column-major, where the same
 * bytes are c' = b' a'. Its kernels for a fixed sparse matrix (fsspmdm) hold at most 480 weights,
 * so the sparse one is spmdm, which compresses blocks of 128 x 128. */
#include <libxsmm.h>
#include <stdlib.h>

enum { TILE = 64 }; /* columns of b that one call of the dense kernel takes */

typedef struct {
  libxsmm_smmfunction tile, rest;
  const float *a, *b;
  float *c;
  int n;
} dense;

void *xsmm_dense(int m, int n, int k, const float *a, const float *b, float *c) {
  const float one = 1, zero = 0;
  const int remainder = n % TILE;
  dense *state = malloc(sizeof *state);
  if (!state) return NULL;
  *state = (dense){NULL, NULL, a, b, c, n};
  state->tile = libxsmm_smmdispatch(TILE, m, k, &n, &k, &n, &one, &zero, NULL, NULL);
  state->rest = remainder
                    ? libxsmm_smmdispatch(remainder, m, k, &n, &k, &n, &one, &zero, NULL, NULL)
                    : state->tile;
  return state->tile && state->rest ? state : NULL;
}

void xsmm_dense_run(void *pointer) {
  const dense *state = pointer;
  int column = 0;
  for (; column + TILE <= state->n; column += TILE) {
    state->tile(state->b + column, state->a, state->c + column);
  }
  if (column < state->n) state->rest(state->b + column, state->a, state->c + column);
}

typedef struct {
  libxsmm_spmdm_handle handle;
  libxsmm_CSR_sparseslice *slices;
  const float *b;
  float *c;
} sparse;

void *xsmm_sparse(int m, int n, int k, const float *a, const float *b, float *c) {
  sparse *state = malloc(sizeof *state);
  if (!state) return NULL;
  state->b = b;
  state->c = c;
  libxsmm_spmdm_init(m, n, k, 1, &state->handle, &state->slices);
  const int blocks = libxsmm_spmdm_get_num_createSparseSlice_blocks(&state->handle);
  for (int i = 0; i < blocks; i++) {
    libxsmm_spmdm_createSparseSlice_fp32_thread(&state->handle, 'N', a, state->slices, i, 0, 1);
  }
  return state;
}

void xsmm_sparse_run(void *pointer) {
  const sparse *state = pointer;
  const float one = 1, zero = 0;
  const int blocks = libxsmm_spmdm_get_num_compute_blocks(&state->handle);
  for (int i = 0; i < blocks; i++) {
    libxsmm_spmdm_compute_fp32_thread(&state->handle, 'N', 'N', &one, state->slices, state->b, 'N',
                                      &zero, state->c, i, 0, 1);
  }
}
