"""Draw both kinds of blocks of a model, with its sizes: python examples/blocks.py [--model FILE] blocks.svg

Boxes have the names under which qwen_ref.model.trace shows what comes out of them.
"""

import argparse
from pathlib import Path

from gguf_io import GGUFError, open_gguf
from qwen_ref import QwenRefError, shipped
from qwen_ref.config import Config, read_config

WIDTH, HEIGHT, ROW = 100, 34, 62  # of a box; from one row to the next
LEFT, TOP, COLUMN = 60, 86, 500  # of the first column; from one column to the other
KINDS = {"stream": "#dbe7f3", "norm": "#ece7f5", "matrix": "#f6d9bf", "rule": "#f5efc6", "state": "#d8ecd6"}

# (row, place from 0 to 3, name, kind, shape) of each box, and what it is made from
Box = tuple[float, float, str, str, str]
Block = tuple[list[Box], list[tuple[str, str]]]


def deltanet(c: Config) -> Block:
    H_k, H_v = c.linear_num_key_heads, c.linear_num_value_heads
    K, V = c.linear_key_head_dim, c.linear_value_head_dim
    boxes = [
        (2, 0, "in_proj_qkv", "matrix", f"T, {c.conv_channels}"),
        (2, 1, "in_proj_a", "matrix", f"T, {H_v}"),
        (2, 2, "in_proj_b", "matrix", f"T, {H_v}"),
        (2, 3, "in_proj_z", "matrix", f"T, {c.value_dim}"),
        (3, 0, "conv1d", "state", f"last {c.conv_kernel - 1}; T, {c.conv_channels}"),
        (3, 1, "g", "rule", f"T, {H_v}"),
        (3, 2, "beta", "rule", f"T, {H_v}"),
        (4, 0, "q_norm k_norm", "norm", f"T, {H_k}, {K}"),
        (5, 0, "state", "state", f"{H_v}, {K}, {V}"),
        (5, 1, "o", "rule", f"T, {H_v}, {V}"),
        (6, 1.5, "norm", "norm", f"T, {H_v}, {V}"),
        (7, 1.5, "out_proj", "matrix", f"T, {c.hidden_size}"),
    ]
    made = "in_proj_qkv > conv1d, in_proj_a > g, in_proj_b > beta, conv1d > q_norm k_norm, q_norm k_norm > o"
    return boxes, arrows(f"{made}, g > o, beta > o, state > o, o > norm, in_proj_z > norm, norm > out_proj")


def attention(c: Config) -> Block:
    H, H_kv, D = c.num_attention_heads, c.num_key_value_heads, c.head_dim
    boxes = [
        (2, 0, "q_proj", "matrix", f"T, {H}, {D}"),
        (2, 1, "k_proj", "matrix", f"T, {H_kv}, {D}"),
        (2, 2, "v_proj", "matrix", f"T, {H_kv}, {D}"),
        (2, 3, "gate", "matrix", f"T, {H}, {D}"),
        (3, 0, "q_norm", "norm", f"T, {H}, {D}"),
        (3, 1, "k_norm", "norm", f"T, {H_kv}, {D}"),
        (4, 0, "q_rope", "rule", f"{c.rotary_dim} of {D} turned"),
        (4, 1, "k_rope", "rule", f"{c.rotary_dim} of {D} turned"),
        (4, 2, "KV cache", "state", f"2, S, {H_kv}, {D}"),
        (5, 1, "attended", "rule", f"T, {H}, {D}"),
        (6, 1.5, "gated", "rule", f"T, {H}, {D}"),
        (7, 1.5, "o_proj", "matrix", f"T, {c.hidden_size}"),
    ]
    made = "q_proj > q_norm, k_proj > k_norm, q_norm > q_rope, k_norm > k_rope, k_rope > KV cache"
    made += ", v_proj > KV cache, q_rope > attended, KV cache > attended"
    return boxes, arrows(f"{made}, attended > gated, gate > gated, gated > o_proj")


def arrows(text: str) -> list[tuple[str, str]]:
    """ "a > b, b > c" as pairs."""
    return [(start, end) for start, _, end in (arrow.partition(" > ") for arrow in text.split(", "))]


def block(c: Config, mixer: Block) -> Block:
    """The mixer's boxes, with what stands before and behind them in every block."""
    boxes, edges = mixer
    stream, inner = f"T, {c.hidden_size}", f"T, {c.intermediate_size}"
    first, last = [box[2] for box in boxes if box[0] == 2], boxes[-1][2]
    around: list[Box] = [
        (0, 1.5, "x", "stream", stream),
        (1, 1.5, "input_layernorm", "norm", stream),
        (8, 1.5, "mixed", "stream", stream),
        (9, 1.5, "post_attention_layernorm", "norm", stream),
        (10, 1, "mlp.gate_proj", "matrix", inner),
        (10, 2, "mlp.up_proj", "matrix", inner),
        (11, 1.5, "mlp.gated", "rule", inner),
        (12, 1.5, "mlp.down_proj", "matrix", stream),
        (13, 1.5, "output", "stream", stream),
    ]
    made = f"x > input_layernorm, {last} > mixed, mixed > post_attention_layernorm"
    made += ", post_attention_layernorm > mlp.gate_proj, post_attention_layernorm > mlp.up_proj"
    made += ", mlp.gate_proj > mlp.gated, mlp.up_proj > mlp.gated"
    edges = [*edges, *arrows(f"{made}, mlp.gated > mlp.down_proj, mlp.down_proj > output")]
    return [*boxes, *around], [*edges, *(("input_layernorm", name) for name in first)]


def draw(block: Block, left: float) -> list[str]:
    boxes, edges = block
    place = {name: (left + p * (WIDTH + 14), TOP + row * ROW) for row, p, name, _, _ in boxes}
    lines = []
    for start, end in edges:
        (x1, y1), (x2, y2) = place[start], place[end]
        sideways = y1 == y2  # the state, which is read in the same row
        a = (x1 + WIDTH, y1 + HEIGHT / 2) if sideways else (x1 + WIDTH / 2, y1 + HEIGHT)
        b = (x2, y2 + HEIGHT / 2) if sideways else (x2 + WIDTH / 2, y2)
        lines.append(f'<path d="M{a[0]:g} {a[1]:g}L{b[0]:g} {b[1]:g}" marker-end="url(#tip)"/>')
    for start, end in ("x", "mixed"), ("mixed", "output"):  # the residual stream, around the layers
        (x, y1), (_, y2), side = place[start], place[end], left - 28
        y1, y2 = y1 + HEIGHT / 2, y2 + HEIGHT / 2
        path = f"M{x:g} {y1:g}H{side}V{y2:g}H{x:g}"
        lines.append(f'<path d="{path}" stroke-width="2.5" marker-end="url(#tip)"/>')
    for _, _, name, kind, shape in boxes:
        x, y = place[name]
        wide = max(0.0, 6.6 * len(name) - WIDTH)
        lines += [
            f'<rect x="{x - wide / 2:g}" y="{y:g}" width="{WIDTH + wide:g}" height="{HEIGHT}" rx="4" '
            f'fill="{KINDS[kind]}"/>',
            f'<text x="{x + WIDTH / 2:g}" y="{y + 14:g}">{name}</text>',
            f'<text x="{x + WIDTH / 2:g}" y="{y + 28:g}" fill="#555">[{shape}]</text>',
        ]
    return lines


def picture(c: Config) -> str:
    """Both blocks of a model as SVG."""
    full = sum(c.is_full_attention(i) for i in range(c.num_layers))
    titles = (
        f"Gated DeltaNet, {c.num_layers - full} of {c.num_layers} layers",
        f"full attention, {full} layers",
    )
    names = {
        "stream": "residual stream",
        "matrix": "product with a weight",
        "state": "remembered between calls",
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * COLUMN + 20} {TOP + 14 * ROW}" '
        'font-family="sans-serif" font-size="11" text-anchor="middle" stroke="none">',
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0L6 3L0 6z" fill="#888"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i, kind in enumerate(names):
        lines.append(f'<rect x="{LEFT + 190 * i}" y="14" width="12" height="12" fill="{KINDS[kind]}"/>')
        lines.append(f'<text x="{LEFT + 18 + 190 * i}" y="24" text-anchor="start">{names[kind]}</text>')
    for i, (title, mixer) in enumerate(zip(titles, (deltanet(c), attention(c)), strict=True)):
        left = LEFT + COLUMN * i
        lines.append(f'<text x="{left + 220}" y="62" font-size="15">{title}</text>')
        lines += ['<g fill="none" stroke="#888">']
        drawn = draw(block(c, mixer), left)
        lines += [line for line in drawn if line.startswith("<path")]
        lines += ["</g>", *(line for line in drawn if not line.startswith("<path"))]
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=shipped.MODEL, help="a GGUF file (the small one of the package)")
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    try:
        options.picture.write_text(picture(read_config(open_gguf(options.model))), encoding="utf-8")
    except (QwenRefError, GGUFError, OSError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
