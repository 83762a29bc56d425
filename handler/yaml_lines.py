"""Which line of a YAML text a value stands on, for errors that name it."""

from collections.abc import Sequence

import yaml


def line_of(root: yaml.Node | None, place: Sequence[int | str]) -> int:
    """From 1; of what is missing, the line of what it is missing from. `place`: keys and positions from the root."""
    node = root
    line = 1 if node is None else node.start_mark.line + 1
    for step in place:
        found = _child(node, step)
        if found is None:
            return line
        name, node = found
        line = name.start_mark.line + 1
    return line


def _child(node: yaml.Node | None, step: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    """What names the child, and the child."""
    if isinstance(node, yaml.MappingNode):
        return next(((name, value) for name, value in node.value if name.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None
