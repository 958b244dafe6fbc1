"""What has changed, in words."""

from pipeline.commands.stage_states import describe_changes


def test_what_changed_is_said_by_kind_and_shortened():
    found = describe_changes(
        [
            {
                "changed deps": {
                    "params.yaml": {"adapt": "modified"},
                    "pipeline/a/b.py": "modified",
                    "data/x": "modified",
                }
            },
            {"changed outs": {f"data/{number}": "modified" for number in range(5)}},
            "changed command",
        ]
    )
    assert found == (
        "parameters: adapt; code: b.py; inputs: data/x; outputs: data/0, data/1, data/2 and 2 more; changed command"
    )
