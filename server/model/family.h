/* family.h - a family file: the named values of an architecture, in order.
 *
 * configs/families/NAME.json:
 *   "architectures": ["Qwen2ForCausalLM"],
 *   "before":  rows run once, first;  "input": the row of them that is layer 0's `x`;
 *   "layers":  "model.layers", the prefix of a layer's rows (a layer's output is model.layers.N);
 *   "layer":   rows run for every layer, the word "attention" among them where those of the chosen
 *              attention go;  "after": rows run once, last;
 *   "attention": {"eager": rows, "sdpa": rows}, by Hugging Face's attn_implementation
 *   "aliases": {"embedding_output": "model.embed_tokens", ...}   names for values outside layers
 *   "layer_aliases": {"attn_output": "self_attn.o_proj", ...}    layer_N.KEY, layer_N_KEY, and KEY
 *              for N = 0
 *   "modules": {"self_attn": "self_attn.o_proj", ...}            model.layers.N.KEY
 *   "mirror":  {"transformers": "5.18.0", "file": "models/qwen2/modeling_qwen2.py",
 *              "lines": {"input_layernorm": 286, ...}}           source line by row name
 *   "comment": anything
 * A row is [name, op, "input input", {attribute: value}?].  An attribute's value is a number, a key
 * of config.json (a list there has a number for each layer), "KEY + KEY", "sqrt KEY", "rsqrt KEY",
 * a word (NAME attributes), or an object that chooses among these by layer type:
 * {"sliding_attention": "sliding_window", "full_attention": 0}.  The model's only row of linear in
 * "after" is its head; its only row of embedding in "before" is what the head may be tied to.
 * An input is a row before it in the same section, a row of "before", `tokens` or `positions`;
 * "{layer_type}" in its name stands for full_attention or sliding_attention, as the layer is.  In a
 * layer, `x` is the layer's input, and the row named `x` makes its output.
 */
#ifndef SAMEBIT_FAMILY_H
#define SAMEBIT_FAMILY_H

#include "kernels/ops.h"
#include "kernels/base/error.h"
#include "server/model/hf_config.h"

/* Hugging Face's attn_implementation. */
enum attention { ATTENTION_EAGER, ATTENTION_SDPA, ATTENTION_COUNT };
const char *attention_name(enum attention attention);
/* Returns the attention of that name ("eager", "sdpa"), or -1. */
int attention_find(const char *name);
/* Sets *out to the attention of that name.  Errors: 400 (param "attention"), listing the names. */
int attention_read(const char *name, enum attention *out, struct error *err);

enum family_section { FAMILY_BEFORE, FAMILY_LAYER, FAMILY_AFTER, FAMILY_SECTIONS };

struct family_attr; /* opaque */

struct family_row {
    char *name; /* "self_attn.q_proj" */
    enum op op;
    int inputs;
    char *input[OP_INPUTS];
    struct family_attr *attrs;
    int attr_count;
    int line; /* source line of the PyTorch it mirrors in family.mirror_file, 0 = none given */
    enum family_section section;
    int index; /* in its section; errors count from 1 */
};

struct family_alias {
    char *alias, *row;
};

struct family {
    char *path;   /* of the file, for errors */
    char *name;   /* "qwen2" */
    char *input;  /* row of "before" that is layer 0's x: "model.embed_tokens" */
    char *layers; /* "model.layers" */
    char *mirror_file, *mirror_version;
    enum attention attention;
    char **elsewhere; /* names of rows that only another attention has */
    enum attention *elsewhere_of;
    int elsewhere_count;
    struct family_row *rows[FAMILY_SECTIONS]; /* with the chosen attention's in their place */
    int count[FAMILY_SECTIONS];
    struct family_alias *aliases, *layer_aliases, *modules;
    int alias_count, layer_alias_count, module_count;
    char **architectures;
    int architecture_count;
};

/* Reads one file, with the rows of one attention.  Every mistake (JSON, unknown op or attribute,
 * undefined input, duplicate name, wrong number of inputs, alias of no row) names file, section,
 * row and value. */
struct family *family_open(const char *path, enum attention attention, struct error *err);
/* Opens the family file in `folder` that lists the architecture of config.json.  If none does, the
 * error names the architectures that are known. */
struct family *family_for(const char *folder, const struct hf_config *config,
                          enum attention attention, struct error *err);
void family_close(struct family *f);

/* The input's name for layers of a type: as it stands, or with {layer_type} replaced, in `room`.  NULL:
 * it does not fit. */
const char *family_input_of(const char *input, const char *layer_type, char *room, size_t size);

/* Returns the attention that has this row where the chosen attention has not, or -1. */
int family_elsewhere(const struct family *f, const char *row);

/* Resolves a row's attributes for a layer (-1 outside the layers).  Does not set inv_freq. */
int family_attrs(const struct family *f, const struct family_row *row,
                 const struct hf_config *config, int64_t layer, struct op_attrs *out,
                 struct error *err);

#endif
