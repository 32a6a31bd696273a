/* files.c - see files.h. */
#include "server/tokenizer/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/base/buffer.h"
#include "kernels/base/json_file.h"
#include "server/tokenizer/auto_class.h"

static int exists(const char *folder, const char *name)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/%s", folder, name);

    return n > 0 && (size_t)n < sizeof(path) && access(path, F_OK) == 0;
}

/* There is no tokenizer.json, and nothing else that can be read. */
static int refuse(const char *folder, struct error *err)
{
    static const char *const known[] = {"tokenizer.model", "tekken.json", "tiktoken.model",
                                        "vocab.json", "vocab.txt"};
    const char *found = NULL;
    size_t i;

    for (i = 0; i < sizeof(known) / sizeof(known[0]) && !found; i++)
        if (exists(folder, known[i]))
            found = known[i];
    return error_param(err, 400, "tokenizer.json",
                       "%s has no tokenizer.json%s%s%s; make one with: python -c \"from "
                       "transformers import AutoTokenizer; AutoTokenizer.from_pretrained('%s')"
                       ".save_pretrained('%s')\"",
                       folder, found ? " (" : "", found ? found : "", found ? " is not read)" : "",
                       found ? folder : "MODEL", folder);
}

static json_t *string_lines(FILE *f, struct error *err)
{
    json_t *lines = json_array();
    size_t capacity = 0;
    char *line = NULL;
    ssize_t n;

    while (lines && (n = getline(&line, &capacity, f)) > 0) {
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        if (n && strncmp(line, "#version", 8) != 0 &&
            json_array_append_new(lines, json_stringn(line, (size_t)n))) {
            error_param(err, 400, "merges.txt", "merges.txt: line %zu is not UTF-8",
                        json_array_size(lines) + 1);
            json_decref(lines);
            lines = NULL;
        }
    }
    free(line);
    return lines;
}

/* The merges, one a line, without the first line that tells the version. */
static json_t *read_merges(const char *folder, struct error *err)
{
    char path[4096];
    json_t *lines;
    FILE *f;

    snprintf(path, sizeof(path), "%s/merges.txt", folder);
    f = fopen(path, "re");
    if (!f) {
        error_param(err, 400, "merges.txt", "%s cannot be read", path);
        return NULL;
    }
    lines = string_lines(f, err);
    fclose(f);
    return lines;
}

/* A document with only a model, of vocab.json and merges.txt. */
static json_t *read_vocab_and_merges(const char *folder, struct error *err)
{
    json_t *vocab = json_file_read(folder, "vocab.json", JSON_FILE_NO_DUPLICATES, err), *merges;

    if (!vocab)
        return NULL;
    merges = read_merges(folder, err);
    if (!merges) {
        json_decref(vocab);
        return NULL;
    }
    return json_pack("{s:[],s:{s:s,s:o,s:o}}", "added_tokens", "model", "type", "BPE", "vocab",
                     vocab, "merges", merges);
}

/* ---- tokenizer_config.json's added_tokens_decoder ---- */

/* The file with those of the tokens that it has not, by their ids. */
static json_t *with_tokens(json_t *file, const json_t *config)
{
    json_t *decoder = auto_class_decoder(config), *tokens, *all, *item;
    size_t i;

    tokens = json_copy(json_object_get(file, "added_tokens"));
    if (!json_is_array(tokens)) {
        json_decref(tokens);
        tokens = json_array();
    }
    json_array_foreach (decoder, i, item)
        if (!auto_class_knows(tokens, json_string_value(json_object_get(item, "content"))))
            json_array_append(tokens, item);
    json_decref(decoder);
    if (json_array_size(tokens) == json_array_size(json_object_get(file, "added_tokens"))) {
        json_decref(tokens);
        return json_incref(file);
    }
    all = json_copy(file);
    json_object_set_new(all, "added_tokens", tokens);
    return all;
}

/* ---- the folder ---- */

/* NULL also for a file that cannot be read; `unknown` then says so, as AutoTokenizer fails on it. */
static json_t *read_optional(const char *folder, const char *name, struct tokenizer_files *out)
{
    struct error why = {0};
    json_t *root = json_file_read(folder, name, JSON_FILE_OPTIONAL | JSON_FILE_PYTHON, &why);

    if (!root && why.code)
        snprintf(out->unknown, sizeof(out->unknown),
                 "AutoTokenizer of transformers fails on this folder: %.220s", why.text);
    return root;
}

/* What AutoTokenizer builds, unless a file that it reads is broken. */
static json_t *build_auto(const struct auto_class_files *configs, json_t *root,
                          struct tokenizer_files *out)
{
    return out->unknown[0]
               ? NULL
               : auto_class_build(configs, root, out->file, out->unknown, sizeof(out->unknown));
}

static int read_all(const char *folder, const struct auto_class_files *configs,
                    struct tokenizer_files *out, struct error *err)
{
    json_t *root =
        json_file_read(folder, "tokenizer.json", JSON_FILE_OPTIONAL | JSON_FILE_NO_DUPLICATES, err);

    if (root) {
        out->file = with_tokens(root, configs->tokenizer_config);
        out->autos = build_auto(configs, root, out);
        json_decref(root);
        return 0;
    }
    if (err->code)
        return -1;
    if (!exists(folder, "vocab.json") || !exists(folder, "merges.txt"))
        return refuse(folder, err);
    root = read_vocab_and_merges(folder, err);
    if (!root)
        return -1;
    out->autos = build_auto(configs, root, out);
    json_decref(root);
    if (!out->autos)
        return error_param(err, 400, "tokenizer.json",
                           "%s has vocab.json and merges.txt but no tokenizer.json, and %s", folder,
                           out->unknown);
    return 0;
}

int tokenizer_files_read(const char *folder, struct tokenizer_files *out, struct error *err)
{
    json_t *config, *tokenizer_config, *map;
    int rc;

    memset(out, 0, sizeof(*out));
    config = read_optional(folder, "config.json", out);
    tokenizer_config = read_optional(folder, "tokenizer_config.json", out);
    map = read_optional(folder, "special_tokens_map.json", out);
    rc = read_all(folder, &(struct auto_class_files){config, tokenizer_config, map}, out, err);
    json_decref(config);
    json_decref(tokenizer_config);
    json_decref(map);
    return rc;
}

void tokenizer_files_clear(struct tokenizer_files *f)
{
    json_decref(f->file);
    json_decref(f->autos);
    memset(f, 0, sizeof(*f));
}
