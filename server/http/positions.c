/* positions.c - see positions.h. */
#include "server/http/positions.h"

#include <string.h>

#include "server/http/json.h"

int positions_read(const json_t *root, enum run_positions otherwise, struct run_request *run,
                   int64_t **list, struct error *err)
{
    const json_t *value = json_object_get(root, "positions");
    const char *word = json_string_value(value);

    *list = NULL;
    run->which = otherwise;
    if (!value || json_is_null(value))
        return 0;
    if (word && strcmp(word, "all") == 0) {
        run->which = POSITIONS_ALL;
    } else if (word && strcmp(word, "last") == 0) {
        run->which = POSITIONS_LAST;
    } else if (json_is_array(value)) {
        run->which = POSITIONS_LIST;
        if (json_read_ints(value, "positions", 0, INT64_MAX, list, &run->position_count, err))
            return -1;
        run->positions = *list;
    } else {
        return error_param(err, 400, "positions",
                           "positions is %s; \"all\", \"last\" or a list of positions is expected",
                           word ? "another word" : json_kind(value));
    }
    return 0;
}
