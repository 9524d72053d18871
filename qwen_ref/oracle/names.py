"""What is observed has three names: here, in transformers, and in llama.cpp's graph.

Here the path of a layer stands before the name: layers.3.self_attn.k_proj. In transformers a name is a
module, of which "in" is what goes into it, and else what comes out, or an argument of a function. ggml's
names end in the layer's number: Kcur_normed-3. Where one name is given to several nodes, the operation of the
node stands behind it: Kcur (ROPE). Where two names hold the tensor, the first may be of more tokens.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Name(NamedTuple):
    ours: str
    transformers: str
    ggml: str  # "" where llama.cpp never has the value
    rows: str  # what the rows of the tensor are, and what a row is


ENDS = [
    Name("rope.angle", "-", "", "[T, R/2], radians"),
    Name("rope.cos", "rotary_emb, first half of the first of two", "", "[T, R/2]"),
    Name("rope.sin", "rotary_emb, first half of the second of two", "", "[T, R/2]"),
    Name("embed_tokens", "in layers.0", "model.input_embed", "[T, hidden]"),
    Name("norm", "norm", "h_nextn, result_norm", "[T, hidden]"),
    Name("logits", "lm_head", "result_output", "[T, vocab]"),
]
LAYER = [
    Name("input_layernorm", "input_layernorm", "attn_norm", "[T, hidden]"),
    Name("mixed", "in post_attention_layernorm", "attn_residual", "[T, hidden]"),
    Name("post_attention_layernorm", "post_attention_layernorm", "attn_post_norm", "[T, hidden]"),
    Name("mlp.gate_proj", "mlp.gate_proj", "ffn_gate", "[T, intermediate]"),
    Name("mlp.up_proj", "mlp.up_proj", "ffn_up", "[T, intermediate]"),
    Name("mlp.gated", "in mlp.down_proj", "ffn_swiglu", "[T, intermediate]"),
    Name("mlp.down_proj", "mlp.down_proj", "ffn_out", "[T, hidden]"),
    Name("output", "", "l_out", "[T, hidden]"),
]
ATTENTION = [
    Name("self_attn.q_proj", "self_attn.q_proj, first half of each head", "Qcur_reshaped", "[T, H, D]"),
    Name("self_attn.gate", "self_attn.q_proj, second half of each head", "gate_reshaped", "[T, H, D]"),
    Name("self_attn.k_proj", "self_attn.k_proj", "Kcur (MUL_MAT)", "[T, H_kv, D]"),
    Name("self_attn.v_proj", "self_attn.v_proj", "Vcur", "[T, H_kv, D]"),
    Name("self_attn.q_norm", "self_attn.q_norm", "Qcur_normed", "[T, H, D]"),
    Name("self_attn.k_norm", "self_attn.k_norm", "Kcur_normed", "[T, H_kv, D]"),
    Name("self_attn.q_rope", "apply_rotary_pos_emb, first of two", "Qcur (ROPE)", "[T, H, D]"),
    Name("self_attn.k_rope", "apply_rotary_pos_emb, second of two", "Kcur (ROPE)", "[T, H_kv, D]"),
    Name(
        "self_attn.weights.N", "attentions, of KV head N's queries (eager)", "kq_soft_max", "[T, H / H_kv, S]"
    ),
    Name("self_attn.attended", "first result of the attention function", "attn_pregate", "[T, H, D]"),
    Name("self_attn.gated", "in self_attn.o_proj", "attn_gated", "[T, H, D]"),
    Name("self_attn.o_proj", "self_attn.o_proj", "attn_output", "[T, hidden]"),
]
DELTANET = [
    Name("linear_attn.in_proj_qkv", "linear_attn.in_proj_qkv", "linear_attn_qkv_mixed", "[T, q, k and v]"),
    Name(
        "linear_attn.conv1d", "q, k, v of torch_chunk_gated_delta_rule", "conv_output_silu", "[T, q, k and v]"
    ),
    Name("linear_attn.q_norm", "l2norm of that q", "q_conv_predelta", "[T, H_k, K]"),
    Name("linear_attn.k_norm", "l2norm of that k", "k_conv_predelta", "[T, H_k, K]"),
    Name("linear_attn.in_proj_b", "linear_attn.in_proj_b", "beta", "[T, H_v]"),
    Name("linear_attn.beta", "beta of torch_chunk_gated_delta_rule", "beta_sigmoid", "[T, H_v]"),
    Name("linear_attn.in_proj_a", "linear_attn.in_proj_a", "alpha", "[T, H_v]"),
    Name("linear_attn.g", "g of torch_chunk_gated_delta_rule", "gate", "[T, H_v]"),
    Name("linear_attn.o", "first result of torch_chunk_gated_delta_rule", "attn_output", "[T, H_v, V]"),
    Name("linear_attn.state", "second result of torch_chunk_gated_delta_rule", "new_state", "[H_v, K, V]"),
    Name("linear_attn.in_proj_z", "linear_attn.in_proj_z", "z", "[T, H_v, V]"),
    Name("linear_attn.norm", "linear_attn.norm", "final_output", "[T, H_v, V]"),
    Name("linear_attn.out_proj", "linear_attn.out_proj", "linear_attn_out", "[T, hidden]"),
]

# Of the MTP layer, which transformers does not compute. `mtp.` stands before them, before those of a layer of
# attention, and before rope.*; and `mtp.draft.` before the same of a draft, whose tokens are the rows.
MTP = [
    Name("embed_tokens", "-", "mtp_tok_embd", "[T, hidden]"),
    Name("enorm", "-", "mtp_enorm", "[T, hidden]"),
    Name("hnorm", "-", "mtp_hnorm", "[T, hidden]"),
    Name("eh_proj", "-", "mtp_eh_proj", "[T, hidden]"),
    Name("norm", "-", "h_nextn", "[T, hidden]"),
    Name("logits", "-", "result_output", "[T, vocab]"),
]
PATH = re.compile(r"^(layers\.\d+|mtp\.draft|mtp)\.")  # of a tensor of the text model, before its name here

# Of the vision tower. `images.N.` or `videos.N.` stands before them; N counts the pictures, or clips, of a
# prompt. Rows are patches, four of which become a token. ggml's names are of the graph of llama.cpp's mtmd.
VISION = [
    Name("pixel_values", "pixel_values of that picture", "", "[patches, C*2*16*16]"),
    Name("patch_embed", "patch_embed", "patch_bias", "[patches, hidden]"),
    Name("embedded", "in blocks.0", "inp_pos_emb", "[patches, hidden]"),
]
VISION_BLOCK = [  # blocks.N.
    Name("norm1", "norm1", "ln1", "[patches, hidden]"),
    Name("attn.qkv", "attn.qkv", "", "[patches, 3 * hidden]"),
    Name("attn.q_rope", "apply_rotary_pos_emb_vision, first of two", "Qcur_rope", "[patches, H, D]"),
    Name("attn.k_rope", "apply_rotary_pos_emb_vision, second of two", "Kcur_rope", "[patches, H, D]"),
    Name("attn.attended", "in attn.proj", "", "[patches, H, D]"),
    Name("attn.proj", "attn.proj", "attn_out", "[patches, hidden]"),
    Name("mixed", "in norm2", "ffn_inp", "[patches, hidden]"),
    Name("norm2", "norm2", "ffn_inp_normed", "[patches, hidden]"),
    Name("mlp.linear_fc1", "mlp.linear_fc1", "", "[patches, intermediate]"),
    Name("mlp.act", "in mlp.linear_fc2", "", "[patches, intermediate]"),
    Name("mlp.linear_fc2", "mlp.linear_fc2", "ffn_out", "[patches, hidden]"),
    Name("output", "", "layer_out", "[patches, hidden]"),
]
MERGER = [
    Name("merger.norm", "merger.norm", "", "[patches, hidden]"),
    Name("merger.linear_fc1", "merger.linear_fc1", "", "[tokens, 4 * hidden]"),
    Name("merger.act", "in merger.linear_fc2", "", "[tokens, 4 * hidden]"),
    Name("merger.linear_fc2", "merger.linear_fc2", "", "[tokens, hidden of the text]"),
]
