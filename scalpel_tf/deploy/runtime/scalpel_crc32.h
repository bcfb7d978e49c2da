#ifndef SCALPEL_CRC32_H
#define SCALPEL_CRC32_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The CRC-32 of what `crc` is the CRC-32 of (0: nothing), followed by n bytes of data. */
uint32_t scalpel_crc32(uint32_t crc, const void *data, uint32_t n);

#ifdef __cplusplus
}
#endif

#endif /* SCALPEL_CRC32_H */
