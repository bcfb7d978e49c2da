/* What Unicorn calls for every basic block and every memory access while the board counts.
 * emulator.py mirrors both structs. Nothing here knows instructions: it counts, Python prices. */
#include <stdint.h>

typedef struct {
  uint32_t address; /* of the block, or of the instruction of an unaligned access */
  uint32_t size;    /* bytes of the block; 0 for an unaligned access */
  uint32_t layer;
  uint32_t extra; /* a block: 1 if it did not start where the last one ended; else wait states */
  uint64_t runs;  /* 0 in a free entry */
} board_count;

typedef struct {
  board_count *counts; /* an open hash table of capacity entries, a power of two */
  const uint16_t *layer_at;
  int (*stop)(void *engine);
  int (*read_register)(void *engine, int number, void *value);
  uint64_t capacity;
  uint64_t used;
  uint64_t code_size; /* layer_at[address / 2], for address < code_size, is the layer that a block
                         at this address enters, or KEEP_LAYER */
  int64_t budget;     /* bytes of code that may still run; below 0 the engine was stopped */
  uint32_t counting;
  uint32_t layer;
  uint32_t end;            /* of the block before */
  int32_t program_counter; /* Unicorn's number of the register */
} board;

enum { KEEP_LAYER = 0xFFFF };

static void count(board *b, void *engine, uint32_t address, uint32_t size, uint32_t extra) {
  uint64_t at = (address >> 1) * UINT64_C(2654435761) + size * 40503u + extra * 97u + b->layer;
  for (;; ++at) {
    board_count *c = &b->counts[at & (b->capacity - 1)];
    if (c->runs == 0) {
      if (++b->used == b->capacity) { /* keeps one entry free, so that the search ends */
        b->stop(engine);
        return;
      }
      *c = (board_count){address, size, b->layer, extra, 1};
      return;
    }
    if (c->address == address && c->size == size && c->layer == b->layer && c->extra == extra) {
      ++c->runs;
      return;
    }
  }
}

void board_block(void *engine, uint64_t address, uint32_t size, void *user) {
  board *b = user;
  b->budget -= size;
  if (b->budget < 0) b->stop(engine);
  if (!b->counting) return;
  if (address < b->code_size && b->layer_at[address >> 1] != KEEP_LAYER) {
    b->layer = b->layer_at[address >> 1];
  }
  count(b, engine, (uint32_t)address, size, (uint32_t)address != b->end);
  b->end = (uint32_t)address + size;
}

void board_access(void *engine, int type, uint64_t address, int size, int64_t value, void *user) {
  (void)type;
  (void)value;
  board *b = user;
  uint32_t waits = 0;
  if (size >= 4 && (address & 3)) waits = (address & 1) ? 2 : 1;
  if (size == 2 && (address & 1)) waits = 1;
  if (waits == 0 || !b->counting) return;
  uint32_t at = 0;
  b->read_register(engine, b->program_counter, &at);
  count(b, engine, at, 0, waits);
}
