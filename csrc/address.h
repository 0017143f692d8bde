#pragma once
#include <stdint.h>

struct address {            /* of a line, or of an allowed sender */
    uint8_t bytes[16];
    uint16_t port;          /* of a sender: 0 */
    uint8_t len;            /* 4 or 16; 0: unused */
    uint8_t pad[5];
};
