// shortest.cpp - see shortest.h.
#include "server/http/shortest.h"

#include <charconv>

int shortest_f32(float f, char out[SHORTEST_TEXT])
{
    return static_cast<int>(
        std::to_chars(out, out + SHORTEST_TEXT, f, std::chars_format::scientific).ptr - out);
}
