"""What a checkpoint's JSON files may say beside what is read: one value only, or what changes nothing."""

from __future__ import annotations

from typing import Any

from qwen_ref.checkpoint.fields import Fields
from qwen_ref.config import TEMPORAL_PATCH_SIZE

TEXT_ONLY = {  # fields of config.json whose other values make another network
    "hidden_act": "silu",
    "attn_output_gate": True,
    "attention_bias": False,
    "mlp_bias": False,
    "use_sliding_window": False,
    "is_causal": True,
    "mlp_only_layers": [],
    "rope_interleaved": False,
    "num_experts": 0,
    **dict(add_cross_attention=False, is_decoder=False, output_router_logits=False),
    **dict(tie_encoder_decoder=False, use_bidirectional_attention=False),
}
TEXT_PASSED = set(  # of training, of the tokenizer, or of how a program computes
    """
    _name_or_path architectures attention_dropout auto_map bos_token_id chunk_size_feed_forward
    do_sample dtype eos_token_id finetuning_task id2label ignore_index image_token_id initializer_factor
    initializer_range is_encoder_decoder label2id language_model_only mamba_ssm_dtype max_window_layers
    model_name model_type mtp_num_hidden_layers mtp_use_dedicated_embeddings name_or_path
    output_attentions output_hidden_states pad_token_id problem_type pruned_heads return_dict
    sliding_window task_specific_params text_config tf_legacy_loss tie_word_embeddings tokenizer_class
    torch_dtype torchscript transformers_version unsloth_fixed unsloth_version use_bfloat16 use_cache
    use_return_dict video_token_id vision_config vision_end_token_id vision_start_token_id vocab_size
    """.split()
)
ROPE_ONLY = {"mrope_interleaved": True}
VISION_ONLY = {"hidden_act": "gelu_pytorch_tanh", "in_channels": 3}
VISION_ROPE_ONLY = {"rope_theta": 10_000.0, "rope_type": "axial", "partial_rotary_factor": 1.0}
PROCESSOR_ONLY = {  # of the processors of pictures and clips, which hold much that tells nothing
    **dict(do_resize=True, do_rescale=True, do_normalize=True, do_convert_rgb=True, do_center_crop=False),
    **dict(rescale_factor=1 / 255, resample=3, temporal_patch_size=TEMPORAL_PATCH_SIZE, do_pad=False),
    **dict(do_sample_frames=True, fps=2, min_frames=4, max_frames=768, num_frames=None),
}
PROCESSORS = "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", "Qwen2VLVideoProcessor"  # or Fast, or Pil
GENERATION_ONLY: dict[str, Any] = {  # of generation_config.json: other ways to draw
    **dict(num_beams=1, num_beam_groups=1, typical_p=1.0, penalty_alpha=0, guidance_scale=1.0, top_h=None),
    **dict(no_repeat_ngram_size=0, encoder_no_repeat_ngram_size=0, encoder_repetition_penalty=1.0),
    **dict(
        epsilon_cutoff=0.0,
        eta_cutoff=0.0,
        diversity_penalty=0.0,
        length_penalty=1.0,
        renormalize_logits=False,
    ),
    **dict(
        min_length=0, min_new_tokens=0, forced_bos_token_id=None, forced_eos_token_id=None, sequence_bias=None
    ),
    **dict(suppress_tokens=[], begin_suppress_tokens=[], bad_words_ids=[], stop_strings=[]),
}
BPE_ONLY = {  # of tokenizer.json's model, and of what stands before and behind it
    **dict(dropout=0, continuing_subword_prefix="", end_of_word_suffix="", byte_fallback=False),
    **dict(fuse_unk=False, ignore_merges=False),
}
STEPS = (  # of the pre-tokenizer
    dict(type="Split", behavior="Isolated", invert=False),
    dict(type="ByteLevel", add_prefix_space=False, use_regex=False),
)
ADDED_ONLY = dict(lstrip=False, rstrip=False, single_word=False)
QUANTIZED = {  # quant_method of config.json -> what people call it
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors (llm-compressor)",
    "modelopt": "NVIDIA ModelOpt",
}
ELSEWHERE = "which is not read: take the checkpoint that it was made of, or a GGUF file"


def check_not_quantized(config: Fields) -> None:
    """Raises QwenRefError for a folder whose weights another tool packed: it says which."""
    for place in config, config.inner("text_config", {}):
        for key in "quantization_config", "quantization":
            about = place.value(key)
            if not about:
                continue
            method = about.get("quant_method") if isinstance(about, dict) else None
            if method is None and isinstance(about, dict) and {"bits", "group_size"} <= about.keys():
                method = "MLX"
            known = QUANTIZED.get(str(method).lower(), str(method))
            raise place.error(key, f"the weights are quantized by {known:.80}, {ELSEWHERE}")
