import ast
import json
import shlex

from marketplace.web import snippets

TEXT = ['It\'s "fine" $HOME `date` \\ 好']


def test_the_curl_line_survives_the_shell() -> None:
    words = shlex.split(snippets.curl("farebox/sentiment", key="fb_sk_live_x", input_data=TEXT))

    assert words[0] == "curl"
    assert "Authorization: Bearer fb_sk_live_x" in words
    assert json.loads(words[words.index("-d") + 1]) == {"input_data": TEXT}


def test_the_python_snippet_is_python_that_sends_the_same() -> None:
    tree = ast.parse(snippets.python("farebox/sentiment", key="fb_sk_live_x", input_data=TEXT))

    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert TEXT[0] in texts


def test_the_javascript_snippet_sends_the_same_json() -> None:
    code = snippets.javascript("farebox/sentiment", key="fb_sk_live_x", input_data=TEXT)

    body = code.split("JSON.stringify(", 1)[1].split("),\n", 1)[0]
    assert json.loads(body) == {"input_data": TEXT}
