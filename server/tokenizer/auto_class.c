/* auto_class.c - see auto_class.h. */
#include "server/tokenizer/auto_class.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/base/json_memory.h"

/* ---- the classes ---- */

#define REPLACE_SPACE "{'type':'Replace','pattern':{'String':'\u2581'},'content':' '}"
#define STRIP_SPACE "{'type':'Strip','content':' ','start':1,'stop':0}"
#define BYTE_LEVEL "'type':'ByteLevel','add_prefix_space':false,'trim_offsets':true"

/* What a class builds from vocabulary and merges, with ' for ".  Named special tokens are its
 * defaults; the folder's files may name others. */
struct class
{
    const char *name;
    const char *model, *normalizer, *pre_tokenizer, *decoder; /* NULL: null */
    const char *special;
    int adds_prefix_space;  /* unless tokenizer_config.json says otherwise */
    int own_post_processor; /* none, whatever tokenizer.json has */
};

static const struct class classes[] = {
    {"LlamaTokenizer", "{'fuse_unk':true,'byte_fallback':true}", NULL,
     "{'type':'Metaspace','replacement':'\u2581','prepend_scheme':'first','split':false}",
     "{'type':'Sequence','decoders':[" REPLACE_SPACE ",{'type':'ByteFallback'},{'type':'Fuse'}," //
     STRIP_SPACE "]}",
     "{'bos_token':'<s>','eos_token':'</s>','unk_token':'<unk>'}", 1, 0},
    {"CodeLlamaTokenizer", "{'fuse_unk':true,'byte_fallback':true,'unk_token':'<unk>'}", NULL,
     "{'type':'Metaspace','replacement':'\u2581','prepend_scheme':'first','split':false}",
     "{'type':'Sequence','decoders':[" REPLACE_SPACE ",{'type':'ByteFallback'},{'type':'Fuse'}," //
     STRIP_SPACE "]}",
     "{'bos_token':'<s>','eos_token':'</s>','unk_token':'<unk>','additional_special_tokens':["
     "'\u2581<PRE>','\u2581<MID>','\u2581<SUF>','\u2581<EOT>','<FILL_ME>']}",
     1, 0},
    {"GemmaTokenizer", "{'fuse_unk':true,'byte_fallback':true,'unk_token':'<unk>'}",
     "{'type':'Replace','pattern':{'String':' '},'content':'\u2581'}",
     "{'type':'Split','pattern':{'String':' '},'behavior':'MergedWithPrevious','invert':false}",
     "{'type':'Sequence','decoders':[" REPLACE_SPACE ",{'type':'ByteFallback'},{'type':'Fuse'}]}",
     "{'bos_token':'<bos>','eos_token':'<eos>','unk_token':'<unk>','pad_token':'<pad>',"
     "'mask_token':'<mask>'}",
     0, 0},
    {"Qwen2Tokenizer", "{}", "{'type':'NFC'}",
     "{'type':'Sequence','pretokenizers':[{'type':'Split','pattern':{'Regex':'"
     "(?i:\\u0027s|\\u0027t|\\u0027re|\\u0027ve|\\u0027m|\\u0027ll|\\u0027d)|"
     "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|"
     "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+'},'behavior':'Isolated','invert':false},"
     "{" BYTE_LEVEL ",'use_regex':false}]}",
     "{" BYTE_LEVEL "}",
     "{'eos_token':'<|endoftext|>','unk_token':'<|endoftext|>','pad_token':'<|endoftext|>'}", 0, 0},
    {"GPT2Tokenizer", "{}", NULL, "{" BYTE_LEVEL "}", "{" BYTE_LEVEL "}",
     "{'bos_token':'<|endoftext|>','eos_token':'<|endoftext|>','unk_token':'<|endoftext|>'}", 0, 0},
    {"GPTNeoXTokenizer", "{}", "{'type':'NFC'}", "{" BYTE_LEVEL "}", "{" BYTE_LEVEL "}",
     "{'bos_token':'<|endoftext|>','eos_token':'<|endoftext|>','unk_token':'<|endoftext|>',"
     "'pad_token':'<|padding|>'}",
     0, 1},
    {"CohereTokenizer", "{}", "{'type':'NFC'}",
     "{'type':'Sequence','pretokenizers':[{'type':'Digits','individual_digits':true},{" BYTE_LEVEL
     "}]}",
     "{" BYTE_LEVEL "}",
     "{'bos_token':'<BOS_TOKEN>','eos_token':'<|END_OF_TURN_TOKEN|>','unk_token':'<UNK>',"
     "'pad_token':'<PAD>','cls_token':'<CLS>','sep_token':'<SEP>','mask_token':'<MASK_TOKEN>'}",
     0, 0},
};

/* Names that mean tokenizer.json as it is. */
static const char *const generic[] = {"TokenizersBackend", "PreTrainedTokenizer", "PythonBackend",
                                      "MistralCommonBackend", "BloomTokenizer"};

/* The class that a model_type is registered with; `insists`: the registered one is taken even when
 * tokenizer_config.json names another. */
static const struct {
    const char *model_type, *class;
    int insists;
} registered[] = {
    {"qwen2", "Qwen2Tokenizer", 1},
    {"qwen3", "Qwen2Tokenizer", 0},
    {"mistral", "TokenizersBackend", 0},
};

/* A name without "Fast" at its end. */
static void plain_name(const char *name, char out[64])
{
    size_t n;

    snprintf(out, 64, "%s", name);
    n = strlen(out);
    if (n > 4 && !strcmp(out + n - 4, "Fast"))
        out[n - 4] = '\0';
}

static int is_generic(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(generic) / sizeof(generic[0]); i++)
        if (!strcmp(name, generic[i]))
            return 1;
    return 0;
}

static const char *registered_class(const char *model_type, int *insists)
{
    size_t i;

    *insists = 0;
    for (i = 0; model_type && i < sizeof(registered) / sizeof(registered[0]); i++) {
        if (strcmp(model_type, registered[i].model_type) != 0)
            continue;
        *insists = registered[i].insists;
        return registered[i].class;
    }
    return NULL;
}

/* The name of the class that AutoTokenizer takes, as AutoTokenizer.from_pretrained decides it. */
static void choose(const struct auto_class_files *f, char name[64])
{
    const char *model_type = json_string_value(json_object_get(f->config, "model_type"));
    const char *hub = json_string_value(json_object_get(f->tokenizer_config, "tokenizer_class"));
    const char *own;
    int insists;

    own = registered_class(model_type, &insists);
    if (!hub)
        hub = json_string_value(json_object_get(f->config, "tokenizer_class"));
    if (!hub) {
        snprintf(name, 64, "%s", own ? own : "TokenizersBackend");
        return;
    }
    plain_name(hub, name);
    if (!own || !strcmp(name, own) || json_object_get(f->tokenizer_config, "auto_map"))
        return;
    if (is_generic(own))
        snprintf(name, 64, "TokenizersBackend");
    else if (insists)
        snprintf(name, 64, "%s", own);
}

static const struct class *find_class(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
        if (!strcmp(name, classes[i].name))
            return &classes[i];
    return NULL;
}

/* ---- special tokens ---- */

static int compare_ids(const void *a, const void *b)
{
    const json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "id"));
    const json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "id"));

    return x < y ? -1 : x > y;
}

/* An entry of added_tokens; id -1: the next free one.  Flags that are missing are those of
 * tokenizers.AddedToken. */
static json_t *make_token(json_int_t id, const char *content, const json_t *flags, int special)
{
    static const char *const keys[] = {"single_word", "lstrip", "rstrip"};
    json_t *token = json_pack("{s:s}", "content", content);
    const json_t *normalized = json_object_get(flags, "normalized");
    size_t i;

    if (id >= 0)
        json_object_set_new(token, "id", json_integer(id));
    special |= json_is_true(json_object_get(flags, "special"));
    for (i = 0; i < 3; i++)
        json_object_set_new(token, keys[i],
                            json_boolean(json_is_true(json_object_get(flags, keys[i]))));
    json_object_set_new(token, "normalized",
                        json_boolean(normalized ? json_is_true(normalized) : !special));
    json_object_set_new(token, "special", json_boolean(special));
    return token;
}

json_t *auto_class_decoder(const json_t *tokenizer_config)
{
    const json_t *decoder = json_object_get(tokenizer_config, "added_tokens_decoder"), *value;
    size_t count = json_object_size(decoder), n = 0, i;
    json_t **sorted = calloc(count + 1, sizeof(json_t *)), *list = json_array();
    const char *key, *content;
    char *end;
    long long id;

    json_object_foreach ((json_t *)decoder, key, value) {
        content = json_string_value(json_object_get(value, "content"));
        id = strtoll(key, &end, 10);
        if (sorted && content && !*end && end != key)
            sorted[n++] = make_token(id, content, value, 0);
    }
    if (sorted && n)
        qsort(sorted, n, sizeof(json_t *), compare_ids);
    for (i = 0; sorted && i < n; i++)
        json_array_append_new(list, sorted[i]);
    free(sorted);
    return list;
}

/* The content of a special token, which is a string or an object. */
static const char *content_of(const json_t *value)
{
    return json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
}

int auto_class_knows(const json_t *tokens, const char *content)
{
    const json_t *item;
    const char *text;
    size_t i;

    json_array_foreach ((json_t *)tokens, i, item) {
        text = json_string_value(json_object_get(item, "content"));
        if (text && !strcmp(text, content))
            return 1;
    }
    return 0;
}

static void add_special(json_t *tokens, const json_t *value)
{
    const char *content = content_of(value);

    if (content && !auto_class_knows(tokens, content))
        json_array_append_new(tokens,
                              make_token(-1, content, json_is_object(value) ? value : NULL, 1));
}

/* Special tokens that are no added tokens yet become some: those that tokenizer_config.json names
 * (or special_tokens_map.json, when it has no added_tokens_decoder), else the class. */
static void add_specials(const struct auto_class_files *f, const json_t *defaults, json_t *tokens)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    const json_t *map =
        json_object_get(f->tokenizer_config, "added_tokens_decoder") ? NULL : f->special_tokens_map;
    const json_t *value;
    const char *name;
    json_t *item;
    size_t i, k;

    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        value = json_object_get(map, keys[i]);
        if (!value)
            value = json_object_get(f->tokenizer_config, keys[i]);
        add_special(tokens, value ? value : json_object_get(defaults, keys[i]));
    }
    for (i = 0; i < 2; i++) {
        value = json_object_get(map, lists[i]);
        if (!value)
            value = json_object_get(f->tokenizer_config, lists[i]);
        if (!value)
            value = json_object_get(defaults, lists[i]);
        json_array_foreach ((json_t *)(uintptr_t)value, k, item)
            add_special(tokens, item);
        json_object_foreach ((json_t *)(uintptr_t)value, name, item) /* {"image_token": "<im>"} */
            add_special(tokens, item);
    }
}

/* ---- building ---- */

static json_t *quoted(const char *text)
{
    char *copy = text ? strdup(text) : NULL, *c;
    json_t *json;

    for (c = copy; c && *c; c++)
        if (*c == '\'')
            *c = '"';
    json = copy ? json_memory_read(copy, strlen(copy), 0, NULL) : json_null();
    free(copy);
    return json;
}

/* Sets a key wherever an object of this type has it. */
static void set_in(json_t *json, const char *type, const char *key, json_t *value)
{
    const char *found = json_string_value(json_object_get(json, "type")), *name;
    json_t *item;
    size_t i;

    if (found && !strcmp(found, type))
        json_object_set(json, key, value);
    json_object_foreach (json, name, item)
        if (json_is_array(item) || json_is_object(item))
            set_in(item, type, key, value);
    json_array_foreach (json, i, item)
        set_in(item, type, key, value);
}

static void set_string_in(json_t *json, const char *type, const char *key, const char *value)
{
    json_t *string = json_string(value);

    set_in(json, type, key, string);
    json_decref(string);
}

/* add_prefix_space and legacy of tokenizer_config.json, as the classes use them. */
static void apply_options(const struct class *c, const json_t *config, json_t *pre, json_t *decoder)
{
    const json_t *space = json_object_get(config, "add_prefix_space");
    const int adds = space && !json_is_null(space) ? json_is_true(space) : c->adds_prefix_space;
    const int legacy = json_is_true(json_object_get(config, "legacy"));
    json_t *stages = json_object_get(decoder, "decoders");
    size_t last = json_array_size(stages);

    set_in(pre, "ByteLevel", "add_prefix_space", adds ? json_true() : json_false());
    if (!adds)
        set_string_in(pre, "Metaspace", "prepend_scheme", "never");
    else if (legacy && !strcmp(c->name, "LlamaTokenizer"))
        set_string_in(pre, "Metaspace", "prepend_scheme", "always");
    if (!adds && c->adds_prefix_space && !strcmp(c->name, "LlamaTokenizer"))
        json_array_remove(stages, last - 1);
}

/* TemplateProcessing as update_post_processor writes it; the ids are those of `tokens`' contents. */
static json_t *make_template(const struct auto_class_files *f, const json_t *special,
                             const json_t *vocab)
{
    static const char *const keys[2][2] = {{"add_bos_token", "bos_token"},
                                           {"add_eos_token", "eos_token"}};
    json_t *single = json_array(), *ids = json_object();
    const json_t *value;
    const char *content;
    int i;

    for (i = 0; i < 2; i++) {
        value = json_object_get(f->tokenizer_config, keys[i][1]);
        content = content_of(value ? value : json_object_get(special, keys[i][1]));
        if (i == 1)
            json_array_append_new(single, json_pack("{s:{s:s}}", "Sequence", "id", "A"));
        if (!content || !json_is_true(json_object_get(f->tokenizer_config, keys[i][0])) ||
            !json_is_integer(json_object_get(vocab, content)))
            continue;
        json_array_append_new(single, json_pack("{s:{s:s}}", "SpecialToken", "id", content));
        json_object_set_new(ids, content,
                            json_pack("{s:[O]}", "ids", json_object_get(vocab, content)));
    }
    return json_pack("{s:s,s:o,s:o}", "type", "TemplateProcessing", "single", single,
                     "special_tokens", ids);
}

/* The file's added tokens stand only where tokenizer_config.json lists none. */
static json_t *class_tokens(const struct auto_class_files *f, const json_t *root)
{
    json_t *listed;

    if (json_object_get(f->tokenizer_config, "added_tokens_decoder"))
        return auto_class_decoder(f->tokenizer_config);
    listed = json_copy(json_object_get(root, "added_tokens"));
    return listed ? listed : json_array();
}

static json_t *build_class(const struct class *c, const struct auto_class_files *f, json_t *root,
                           int is_file)
{
    json_t *tokens = class_tokens(f, root), *special = quoted(c->special);
    json_t *model = quoted(c->model), *pre = quoted(c->pre_tokenizer),
           *decoder = quoted(c->decoder);
    const json_t *old = json_object_get(root, "model");
    json_t *post = json_object_get(root, "post_processor"), *all;

    apply_options(c, f->tokenizer_config, pre, decoder);
    json_object_set_new(model, "type", json_string("BPE"));
    json_object_set(model, "vocab", json_object_get(old, "vocab"));
    json_object_set(model, "merges", json_object_get(old, "merges"));
    if (is_file && !c->own_post_processor && post && !json_is_null(post))
        json_incref(post);
    else
        post = is_file ? json_null() : make_template(f, special, json_object_get(old, "vocab"));
    add_specials(f, special, tokens);
    all = json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "added_tokens", tokens, "normalizer",
                    quoted(c->normalizer), "pre_tokenizer", pre, "post_processor", post, "decoder",
                    decoder, "model", model);
    json_decref(special);
    return all;
}

/* TokenizersBackend: the file, and the special tokens that other files name. */
static json_t *build_generic(const struct auto_class_files *f, json_t *file)
{
    json_t *tokens = json_copy(json_object_get(file, "added_tokens")), *all;
    const size_t before = json_array_size(tokens);

    if (!json_is_array(tokens)) {
        json_decref(tokens);
        tokens = json_array();
    }
    add_specials(f, NULL, tokens);
    if (json_array_size(tokens) == before) {
        json_decref(tokens);
        return json_incref(file);
    }
    all = json_copy(file);
    json_object_set_new(all, "added_tokens", tokens);
    return all;
}

/* In Python's sense, of what such keys hold. */
static int is_true(const json_t *value)
{
    return json_is_true(value) || json_integer_value(value) != 0 || json_string_length(value) != 0;
}

json_t *auto_class_build(const struct auto_class_files *files, json_t *root, json_t *file,
                         char *why, size_t why_size)
{
    const json_t *model = json_object_get(root, "model");
    const struct class *class;
    char name[64];

    if (is_true(json_object_get(files->tokenizer_config, "split_special_tokens"))) {
        snprintf(why, why_size,
                 "transformers looks for no special tokens in a text (split_special_tokens of "
                 "tokenizer_config.json), which is not mirrored");
        return NULL;
    }
    choose(files, name);
    class = find_class(name);
    if (class && json_is_object(json_object_get(model, "vocab")) &&
        json_is_array(json_object_get(model, "merges")))
        return build_class(class, files, root, file != NULL);
    if (file && !class && is_generic(name))
        return build_generic(files, file);
    snprintf(why, why_size, "what transformers' class %s makes of it is not known here", name);
    return NULL;
}
