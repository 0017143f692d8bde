#pragma once
#include <stdint.h>

/* Wire scalars: structs of bytes, so alignment 1 and no field can be read in the wrong byte
 * order. The type names the order, the width in bits and the unit; read.h reads them. */

typedef struct { uint8_t byte[2]; } be16;
typedef struct { uint8_t byte[4]; } be32;
typedef struct { uint8_t byte[8]; } be64;
typedef struct { uint8_t byte[6]; } ns48be;     /* ns since midnight */
typedef struct { uint8_t byte[4]; } px4be;      /* price, 4 decimals */
typedef struct { uint8_t byte[8]; } px8be;      /* price, 8 decimals */
typedef struct { uint8_t byte[8]; } px4be64;    /* price, 4 decimals */
typedef struct { uint8_t byte[2]; } le16;
typedef struct { uint8_t byte[4]; } le32;
typedef struct { uint8_t byte[8]; } le64;
typedef struct { uint8_t byte[8]; } ns64le;     /* ns since the Unix epoch, signed */
typedef struct { uint8_t byte[4]; } sec32le;    /* seconds since the Unix epoch */
typedef struct { uint8_t byte[8]; } px4le;      /* price, 4 decimals, signed 64 bits */
