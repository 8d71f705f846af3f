"""YAML loaders for files that people send: without what deceives or grows."""

import yaml


class NoAliases(yaml.SafeLoader):
    """Without aliases, by which a small file stands for an endless one."""

    def compose_node(self, parent, index):
        """The next node; YAMLError for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"it has the alias *{self.peek_event().anchor}")
        return super().compose_node(parent, index)


class UniqueKeys(NoAliases):
    """Without a key that is there twice, of which YAML keeps the last."""

    def construct_mapping(self, node, deep=False):
        """The mapping of a node; YAMLError for a key that is there twice."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"line {line} has the key '{key.value}' again")
            seen.add(key.value)
        return super().construct_mapping(node, deep)
