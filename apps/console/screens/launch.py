"""Launch: a model of the catalogue, checked against the cluster before it is submitted, then watched."""

import secrets
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.console import frame, markup
from apps.console.feed import Feed
from apps.console.screens import deployments
from apps.console.views import launch as view

ENGINES = ("vllm", "tgi", "sglang", "llamacpp", "simulator")
CONTAINERS = ("", "none", "apptainer", "docker", "pyxis")
ASKED_S = 30.0


def draw(feed: Feed) -> None:
    frame.begin("Launch", "Each replica is one job. Everything is filled in from the catalogue; change what differs.")
    catalogue = feed.read("catalogue", lambda client: client.catalogue(), fresh_s=60)
    if catalogue.value is None:
        frame.stamp(catalogue)
        return
    if launched := st.session_state.get("launched"):
        _watched(feed, launched)
        return
    places = feed.read("places", _places, fresh_s=60).value or {}
    models = {model["id"]: model for model in catalogue.value}
    chosen = st.selectbox("Model (type to search)", list(models), format_func=lambda id: view.label(models[id]))
    model = models[chosen]
    st.caption(view.about(model))
    if model["missing"]:
        st.warning(f"{model['missing']}. A launch is refused as long as that is so.")
    form, check = st.columns([5, 6], gap="large")
    with form:
        typed, wrong = _form(model, places)
    with check:
        _checked(feed, view.request(model, typed), wrong, typed["name"] or model["id"])


def _places(client: Any) -> dict[str, Any]:
    """Partitions and GPU types by scheduler, the default first."""
    return {
        name: {
            "partitions": sorted({one for node in nodes for one in node["partitions"]}),
            "gpu_types": sorted({kind for node in nodes for kind in node["gpus"]}),
        }
        for name, nodes in client.cluster().items()
    }


def _form(model: dict[str, Any], places: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What is typed, and what is wrong with it. Values start anew with each model."""
    asks = model["resources"]

    def key(name: str) -> str:
        return f"launch-{model['id']}-{name}"

    left, right = st.columns(2)
    typed: dict[str, Any] = {}
    with left:
        typed["name"] = st.text_input("Name", model["id"], key=key("name"), help="a-z, 0-9 and . _ -").strip()
        typed["replicas"] = st.number_input("Replicas", 0, 1000, 1, key=key("replicas"))
        typed["gpus"] = st.number_input("GPUs per node", 0, 64, asks["gpus"], key=key("gpus"))
        typed["cpus"] = st.number_input("CPUs", 1, 4096, asks["cpus"], key=key("cpus"))
        typed["time_limit"] = st.text_input(
            "Time limit", asks["time_limit"], key=key("time"), help="D-HH:MM:SS"
        ).strip()
    with right:
        known = list(dict.fromkeys([model["engine"], *ENGINES]))
        typed["engine"] = st.selectbox("Inference engine", known, key=key("engine"))
        typed["max_replicas"] = st.number_input(
            "At most, when scaled", 1, 1000, max(1, typed["replicas"]), key=key("max")
        )
        typed["vram_gb"] = st.number_input("GPU memory, GB each", 0.0, 1024.0, float(asks["vram_gb"]), key=key("vram"))
        typed["mem_gb"] = st.number_input("Memory, GB", 0.1, 65536.0, float(asks["mem_gb"]), key=key("mem"))
        typed["gpu_type"] = _gpu_type(asks["gpu_type"], places, key("type"))
    with st.expander("Where it runs, and the engine's arguments"):
        wrong = _more(model, places, typed, key)
    return typed, wrong


def _gpu_type(asked: str, places: dict[str, Any], key: str) -> str:
    types = sorted({kind for place in places.values() for kind in place["gpu_types"]} | ({asked} if asked else set()))
    options = ["", *types]
    shown = st.selectbox(
        "GPU type", options, options.index(asked), key=key, format_func=lambda one: one or "any that fits"
    )
    return str(shown)


def _more(model: dict[str, Any], places: dict[str, Any], typed: dict[str, Any], key: Any) -> str:
    left, right = st.columns(2)
    with left:
        if len(places) > 1:
            typed["scheduler"] = st.selectbox("Scheduler", list(places), key=key("scheduler"))
        place = places.get(typed.get("scheduler") or next(iter(places), ""), {})
        partitions = ["", *place.get("partitions", ())]
        shown = {"": "chosen by GPU and time"}
        typed["partition"] = st.selectbox(
            "Partition", partitions, key=key("part"), format_func=lambda p: shown.get(p, p)
        )
        typed["account"] = st.text_input("Account", key=key("account")).strip()
        typed["nodes"] = st.number_input("Nodes per replica", 1, 256, model["resources"]["nodes"], key=key("nodes"))
    with right:
        if len(model["precisions"]) > 1:
            typed["precision"] = st.selectbox("Precision", model["precisions"], key=key("precision"))
        shown_as = {"": "as the site says"}
        typed["container"] = st.selectbox(
            "Container", CONTAINERS, key=key("container"), format_func=lambda one: shown_as.get(one, one)
        )
        typed["qos"] = st.text_input("QOS", key=key("qos")).strip()
        typed["constraint"] = st.text_input("Constraint", key=key("constraint")).strip()
    given = "\n".join(f"{name}={value}" for name, value in model["arguments"].items())
    text = st.text_area("Arguments of the inference engine, NAME=VALUE", given, key=key("arguments"))
    found, wrong = view.arguments(text)
    typed["arguments"] = {name: value for name, value in found.items() if model["arguments"].get(name) != value}
    return wrong


def _checked(feed: Feed, request: dict[str, Any], wrong: str, name: str) -> None:
    """Whether it fits, when it would start, and what would be submitted."""
    marked = repr(sorted(request.items()))
    script = feed.read(("render", marked), lambda client: client.render(**request), ASKED_S)
    if wrong or script.value is None or script.trouble:
        st.error(wrong or script.trouble)
        st.button("Launch", disabled=True, type="primary")
        return
    fit = feed.read(("fit", marked), lambda client: client.fit(**request), ASKED_S)
    expected = feed.read(("start", marked), lambda client: client.test_only(**request), ASKED_S)
    _verdict(fit.value, fit.trouble, expected.value, expected.trouble)
    if st.button("Launch", type="primary", key="launch-button"):
        _submit(feed, request, name)
    last = feed.read(("script", name), lambda client: client.script(name), ASKED_S)
    _scripts(script.value, last.value)


def _verdict(fit: dict[str, Any] | None, no_fit: str, expected: dict[str, Any] | None, no_start: str) -> None:
    if fit is None:
        st.warning(f"Whether it fits is not known: {no_fit}")
    else:
        tone = "good" if fit["replicas_now"] else "warn" if fit["possible"] else "bad"
        start = view.start(expected, datetime.now(UTC)) if expected else no_start
        words = fit["words"][:1].upper() + fit["words"][1:] + "."
        st.html(markup.items([(tone, words, start)]))


def _scripts(script: str, last: str | None) -> None:
    st.subheader("The job's script", anchor=False)
    if last is None:
        st.caption("Nothing was launched under this name yet.")
    elif changed := view.difference(last, script):
        with st.expander("What differs from the script submitted last under this name", expanded=True):
            st.code(changed, language="diff")
    else:
        st.caption("It says the same as the script submitted last under this name.")
    with st.expander("All of it", expanded=last is None):
        st.code(script, language="bash", line_numbers=True, height=420)


def _submit(feed: Feed, request: dict[str, Any], name: str) -> None:
    """Twice the same click is one launch: the request has a number of its own until it was answered."""
    number = st.session_state.setdefault("launch-number", secrets.token_hex(8))
    row = frame.told(feed, lambda client: client.launch(**request, request_id=number), f"{name} was submitted.")
    if row is not None:
        del st.session_state["launch-number"]
        st.session_state["launched"] = row["name"]
        st.rerun()


def _watched(feed: Feed, name: str) -> None:
    st.subheader(name, anchor=False)
    frame.live(feed, ("deployment", name), lambda client: client.deployment(name), _steps, every_s=1.0)
    with st.container(horizontal=True):
        if st.button("Launch another", key="launch-another"):
            del st.session_state["launched"]
            st.rerun()
        if st.button(f"Open {name}", key="launch-open"):
            deployments.show(name)


def _steps(row: dict[str, Any]) -> None:
    st.html(markup.steps(view.steps(row)))
    if row["gave_up"]:
        st.error(row["reason"])
    elif not row["wanted"]:
        st.info("It is there, without a replica. Open it and scale it up, then it serves.")
    elif row["ready"] >= row["wanted"]:
        st.success(f"{row['name']} answers at {row['url']}")
    else:
        for line in view.still_to_come(row) or filter(None, [row["reason"]]):
            st.info(line)
