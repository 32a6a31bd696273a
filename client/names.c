/* names.c - see names.h.
 *
 * A name is split into lower-case words.  The layer's number is taken out, and words such as "model" or
 * "module", which say nothing about the value, are dropped.  The rest is looked up in a table, then
 * again without its first word, and so on. */
#include "client/names.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/side.h"

enum { WORDS = 24, WORD = 48 };

struct words {
    char at[WORDS][WORD];
    int count;
    int layer; /* -1: none */
};

struct spelling {
    const char *row;
    const char *names; /* words joined by _, one or many, between spaces */
};

/* Inside a layer. */
static const struct spelling in_layer[] = {
    {"input_layernorm",
     " input_layernorm ln1 ln_1 norm1 norm_1 ln1_normalized attn_norm attention_norm input_norm "
     "pre_attn_norm "
     "pre_attention_norm pre_self_attention_layer_norm pre_self_attention_norm rms_1 rmsnorm_1 "
     "attn_layernorm normalized_input layernorm_before "},
    {"self_attn.q_proj",
     " q q_proj query wq qcur attn_q q_linear query_proj to_q self_attn_q attention_query "},
    {"self_attn.k_proj",
     " k k_proj key wk kcur attn_k k_linear key_proj to_k self_attn_k attention_key "},
    {"self_attn.v_proj",
     " v v_proj value wv vcur attn_v v_linear value_proj to_v self_attn_v attention_value "
     "value_states "},
    {"self_attn.q_proj+self_attn.k_proj+self_attn.v_proj",
     " qkv qkv_proj c_attn wqkv attn_qkv query_key_value "},
    {"self_attn.q_norm", " q_norm qcur_normed query_norm norm_q "},
    {"self_attn.k_norm", " k_norm kcur_normed key_norm norm_k "},
    {"self_attn.q_rope",
     " q_rope q_rot rot_q rotary_q q_rotated q_rotary query_rope q_embed rope_q query_states "
     "qcur_rope q_roped "},
    {"self_attn.k_rope",
     " k_rope k_rot rot_k rotary_k k_rotated k_rotary key_rope k_embed rope_k key_states "
     "kcur_rope k_roped "},
    {"self_attn.keys", " keys k_cache cache_k key_cache cached_key past_key all_keys "},
    {"self_attn.values", " values v_cache cache_v value_cache cached_value past_value all_values "},
    {"self_attn.scores", " scores qk kq qk_scores raw_scores attn_logits "},
    {"self_attn.scaled", " scaled scaled_scores kq_scaled "},
    {"self_attn.masked", " masked masked_scores kq_masked attn_scores "},
    {"self_attn.weights",
     " weights attn_weights attn_probs probs pattern attentions kq_soft_max "
     "kq_soft_max_ext softmax attention_weights attention_probs self_attn_weights "},
    {"self_attn.context",
     " context z ctx attn_context kqv kqv_merged kqv_merged_cont kqv_wo_in encoded attn_heads "},
    {"self_attn.o_proj", " o o_proj wo attn attention attn_out attn_output attention_output "
                         "kqv_out self_attn self_attention out_proj "
                         "c_proj attn_o output_proj self_attn_output attention_out "},
    {"attn_residual",
     " attn_residual resid1 residual1 resid_mid ffn_inp h1 hidden_after_attn residual_1 "
     "after_attn post_attn_residual intermediate_inputs "},
    {"post_attention_layernorm",
     " post_attention_layernorm post_self_attention_norm ln2 ln_2 norm2 norm_2 ffn_norm "
     "ln2_normalized mlp_norm "
     "pre_mlp_norm pre_ffn_norm post_self_attention_layer_norm normalized_after_attn "
     "post_attn_norm rms_2 post_attention_norm "},
    {"mlp.gate_proj",
     " gate gate_proj w1 ffn_gate mlp_gate mlp_pre wi_0 w_gate gate_linear pre gate_out "},
    {"mlp.up_proj", " up up_proj w3 ffn_up mlp_up mlp_pre_linear wi_1 w_up pre_linear up_out "},
    {"mlp.gate_proj+mlp.up_proj",
     " gate_up gate_up_proj up_gate up_gate_proj gate_and_up wi w13 ffn_gate_up ffn_up_gate "},
    {"mlp.act_fn", " act act_fn silu ffn_silu activation swish gate_act "},
    {"mlp.product",
     " product mlp_post ffn_gate_par ffn_swiglu swiglu gated mlp_hidden gate_times_up post "
     "act_times_up "},
    {"mlp.down_proj",
     " down down_proj w2 mlp mlp_out ffn_out mlp_output mlp_down ffn_down feed_forward ffn "
     "mlp_wo "},
    {"", " x out output resid2 residual2 resid_post l_out layer_out final block_out residual_2 "
         "layer_output hidden hidden_out hidden_states h block h2 "},
};

static const struct spelling outside[] = {
    {"model.embed_tokens",
     " embed embed_tokens embedding embeddings token_embedding token_embedder inp_embd wte "
     "embedding_output tok_embeddings tok_embd embed_in hook_embed input_embeddings "
     "inputs_embeds "},
    {"model.rotary_emb.cos", " cos rope_cos rotary_cos rotary_emb_cos "},
    {"model.rotary_emb.sin", " sin rope_sin rotary_sin rotary_emb_sin "},
    {"model.norm",
     " norm final_norm result_norm ln_f ln_final ln_final_normalized decoder_norm norm_f "
     "final_layernorm last_hidden_state final_ln ln_out output_norm final_layer_norm "},
    {"lm_head",
     " lm_head logits result_output output unembed head logits_dense output_logits lm_logits "},
};

/* ---- words ---- */

static int is_layer_word(const char *w)
{
    static const char *const words[] = {"layers", "layer", "h",     "blocks",      "block",
                                        "blk",    "l",     "resid", "decoderlayer"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(w, words[i]) == 0)
            return 1;
    return 0;
}

/* Words that say where, not what. */
static int is_noise(const char *w)
{
    static const char *const words[] = {
        "model", "transformer", "decoder", "params", "hook",  "intermediates", "call", "module",
        "scan",  "language",    "result",  "layers", "layer", "blocks",        "blk",  "bsnd"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(w, words[i]) == 0)
            return 1;
    return 0;
}

static int is_number(const char *w)
{
    return *w && w[strspn(w, "0123456789")] == '\0';
}

/* Cuts at everything that is no letter or digit. */
static void split(const char *name, struct words *out)
{
    *out = (struct words){.layer = -1};
    while (*name && out->count < WORDS) {
        char *w = out->at[out->count];
        size_t n = 0;

        while (*name && !isalnum((unsigned char)*name))
            name++;
        while (isalnum((unsigned char)*name) && n + 1 < WORD)
            w[n++] = (char)tolower((unsigned char)*name++);
        w[n] = '\0';
        while (isalnum((unsigned char)*name))
            name++;
        out->count += n > 0;
    }
}

static void drop(struct words *w, int i)
{
    w->count--;
    memmove(w->at[i], w->at[i + 1], sizeof(w->at[0]) * (size_t)(w->count - i));
}

/* "layers", "3"; "layer3", "l3"; and llama.cpp's "attn_norm-3", whose number stands last. */
static void take_layer(struct words *w, const char *name)
{
    const char *last = strrchr(name, '-');

    for (int i = 0; i + 1 < w->count && w->layer < 0; i++)
        if (is_layer_word(w->at[i]) && is_number(w->at[i + 1])) {
            w->layer = atoi(w->at[i + 1]);
            drop(w, i + 1);
            if (i + 1 < w->count)
                drop(w, i);
        }
    for (int i = 0; i < w->count && w->layer < 0; i++) {
        char head[WORD];
        const size_t n = strcspn(w->at[i], "0123456789");

        snprintf(head, sizeof(head), "%.*s", (int)n, w->at[i]);
        if (n && is_layer_word(head) && strcmp(head, "h") != 0 && is_number(w->at[i] + n)) {
            w->layer = atoi(w->at[i] + n);
            if (w->count > 1)
                drop(w, i);
        }
    }
    if (w->layer < 0 && last && is_number(last + 1) && w->count > 1) {
        w->layer = atoi(last + 1);
        drop(w, w->count - 1);
    }
}

static void join(const struct words *w, int first, int end, char *out, size_t size)
{
    size_t at = 0;

    *out = '\0';
    for (int i = first; i < end && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i > first ? "_" : "", w->at[i]);
}

/* ---- looking up ---- */

static const char *row_of(const struct spelling *table, size_t count, const char *words)
{
    char key[NAMES_SIZE + 2];

    snprintf(key, sizeof(key), " %s ", words);
    for (size_t i = 0; i < count; i++)
        if (strstr(table[i].names, key))
            return table[i].row;
    return NULL;
}

/* The rest of the words, then ever fewer of those in front; then without a last one that says no
 * more than that it is a result. */
static const char *look_up(const struct words *w, const struct spelling *table, size_t count)
{
    const char *row = NULL;
    char text[NAMES_SIZE];
    const int last = w->count - 1;
    const int ends =
        w->count > 1 &&
        (is_number(w->at[last]) || !strcmp(w->at[last], "output") || !strcmp(w->at[last], "out") ||
         !strcmp(w->at[last], "kernel") || !strcmp(w->at[last], "scale"));

    for (int end = w->count; !row && end >= w->count - ends && end > 0; end--)
        for (int first = 0; !row && first < end; first++) {
            join(w, first, end, text, sizeof(text));
            row = row_of(table, count, text);
        }
    return row;
}

/* What output_hidden_states gives: N entries in are the embedding and the layers' outputs, but the
 * last, which has gone through the norm. */
static int hidden_state(int n, int layers, char *out, size_t size)
{
    if (n == 0)
        snprintf(out, size, "model.embed_tokens");
    else if (n == layers)
        snprintf(out, size, "model.norm");
    else
        snprintf(out, size, "model.layers.%d", n - 1);
    return 1;
}

/* The row's path, or the paths of a fused one joined by "+". */
static int paths(const char *row, int layer, char *out, size_t size)
{
    int count = 0;
    size_t at = 0;

    do {
        const size_t n = strcspn(row, "+");

        at += (size_t)snprintf(out + at, at < size ? size - at : 0, "%smodel.layers.%d%s%.*s",
                               count ? "+" : "", layer, n ? "." : "", (int)n, row);
        row += n + (row[n] == '+');
        count++;
    } while (*row && at < size);
    return at < size ? count : 0;
}

/* "past_key_values.3.key", or .0 for keys and .1 for values. */
static int is_past(const struct words *w, const char **row, int *layer)
{
    const char *last = w->count ? w->at[w->count - 1] : "";

    if (w->count != 5 || strcmp(w->at[0], "past") != 0 || strcmp(w->at[1], "key") != 0 ||
        strcmp(w->at[2], "values") != 0 || !is_number(w->at[3]))
        return 0;
    *row = !strcmp(last, "key") || !strcmp(last, "keys") || !strcmp(last, "0") ? "self_attn.keys"
                                                                               : "self_attn.values";
    *layer = atoi(w->at[3]);
    return 1;
}

static int guess(const char *name, int layers, char *out, size_t size)
{
    struct words w;
    const char *row;
    int layer;

    split(name, &w);
    for (int i = 0; i + 1 < w.count; i++) { /* "hidden_states.3", "attentions.3" */
        const int last = i + 2 == w.count && is_number(w.at[i + 1]);

        if (last && i && !strcmp(w.at[i], "states") && !strcmp(w.at[i - 1], "hidden"))
            return hidden_state(atoi(w.at[i + 1]), layers, out, size);
        if (last && !strcmp(w.at[i], "attentions"))
            return paths("self_attn.weights", atoi(w.at[i + 1]), out, size);
    }
    if (is_past(&w, &row, &layer))
        return paths(row, layer, out, size);
    take_layer(&w, name);
    for (int i = 0; i < w.count;)
        if (is_noise(w.at[i]) && w.count > 1)
            drop(&w, i);
        else
            i++;
    if (w.layer >= 0) {
        if (w.count == 2 && !strcmp(w.at[0], "resid") && !strcmp(w.at[1], "pre"))
            return hidden_state(w.layer, 0, out, size);
        row = look_up(&w, in_layer, sizeof(in_layer) / sizeof(in_layer[0]));
        if (!row && w.count == 1 && is_layer_word(w.at[0]))
            row = "";
        return row ? paths(row, w.layer, out, size) : 0;
    }
    row = look_up(&w, outside, sizeof(outside) / sizeof(outside[0]));
    return row ? (snprintf(out, size, "%s", row), 1) : 0;
}

int names_guess(const char *name, int layers, char *out, size_t size)
{
    const char *base = side_base_name(name);
    const size_t prefix = (size_t)(base - name);
    char path[NAMES_SIZE];
    const int count = guess(base, layers, path, sizeof(path));

    if (count)
        snprintf(out, size, "%.*s%s", (int)prefix, name, path);
    return count;
}
