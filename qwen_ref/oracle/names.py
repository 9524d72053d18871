"""What is observed has three names: here, in transformers, and in llama.cpp's graph.

Here the path of a layer stands before the name: layers.3.self_attn.k_proj. In transformers a name is a
module, of which "in" is what goes into it, and else what comes out, or an argument of a function. ggml's
names end in the layer's number: Kcur_normed-3.
"""

from __future__ import annotations

from typing import NamedTuple


class Name(NamedTuple):
    ours: str
    transformers: str
    ggml: str  # "" where llama.cpp never has the value
    rows: str  # what the rows of the tensor are, and what a row is


ENDS = [
    Name("embed_tokens", "embed_tokens", "model.input_embed", "[T, hidden]"),
    Name("norm", "norm", "result_norm", "[T, hidden]"),
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
    Name("self_attn.k_proj", "self_attn.k_proj", "Kcur", "[T, H_kv, D]"),
    Name("self_attn.v_proj", "self_attn.v_proj", "Vcur", "[T, H_kv, D]"),
    Name("self_attn.q_norm", "self_attn.q_norm", "Qcur_normed", "[T, H, D]"),
    Name("self_attn.k_norm", "self_attn.k_norm", "Kcur_normed", "[T, H_kv, D]"),
    Name("self_attn.q_rope", "apply_rotary_pos_emb, first of two", "Qcur (after ROPE)", "[T, H, D]"),
    Name("self_attn.k_rope", "apply_rotary_pos_emb, second of two", "Kcur (after ROPE)", "[T, H_kv, D]"),
    Name("self_attn.weights.N", "attentions, of KV head N's queries (eager)", "", "[T, H / H_kv, S]"),
    Name("self_attn.attended", "first result of the attention function", "attn_pregate", "[T, H, D]"),
    Name("self_attn.gated", "in self_attn.o_proj", "attn_gated", "[T, H, D]"),
    Name("self_attn.o_proj", "self_attn.o_proj", "attn_output", "[T, hidden]"),
]
DELTANET = [
    Name("linear_attn.in_proj_qkv", "linear_attn.in_proj_qkv", "linear_attn_qkv_mixed", "[T, q, k and v]"),
    Name(
        "linear_attn.conv1d", "q, k, v of torch_chunk_gated_delta_rule", "conv_output_silu", "[T, q, k and v]"
    ),
    Name("linear_attn.q_norm", "l2norm of that q", "", "[T, H_k, K]"),
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
