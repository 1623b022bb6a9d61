"""How the console looks: Streamlit's theme, and the style of what it draws itself. All of it comes from here."""

THEME = {
    "theme.baseFontSize": "14",
    "theme.baseRadius": "4px",
    "theme.showWidgetBorder": "true",
    "theme.light.primaryColor": "#0b5c8f",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f3f5f7",
    "theme.light.textColor": "#1b232b",
    "theme.light.borderColor": "#d5dbe1",
    "theme.light.sidebar.backgroundColor": "#eef1f4",
    "theme.dark.primaryColor": "#3a86bd",
    "theme.dark.backgroundColor": "#12171c",
    "theme.dark.secondaryBackgroundColor": "#1b222a",
    "theme.dark.textColor": "#dfe5ea",
    "theme.dark.borderColor": "#323c46",
    "theme.dark.sidebar.backgroundColor": "#0d1115",
}

# Of a state: good, busy, warn, bad or idle. Colours are for those who see them; the words say the same.
COLOURS = {
    "good": ("#1a7f4b", "#4cc38a"),
    "busy": ("#0b5c8f", "#63b3e6"),
    "warn": ("#8a5a00", "#e0a84a"),
    "bad": ("#b3261e", "#ff8a80"),
    "idle": ("#5b6771", "#94a1ad"),
}

_TONES = "\n".join(f".e-{name} {{ --tone: light-dark({light}, {dark}) }}" for name, (light, dark) in COLOURS.items())
CSS = f"""<style>
{_TONES}
.stMainBlockContainer {{ padding-top: 3.25rem; padding-bottom: 4rem; max-width: 1500px }}
.stMainBlockContainer h1 {{ font-size: 1.6rem; padding: 0 0 .5rem }}
.stMainBlockContainer h2 {{ font-size: 1.2rem; padding: .9rem 0 .25rem }}
.stMainBlockContainer h3 {{ font-size: 1rem; padding: .6rem 0 .2rem }}
.e-line {{ --line: color-mix(in srgb, currentColor 18%, transparent) }}
.e-stamp {{ font-size: .8rem; opacity: .7 }}
.e-word {{ color: var(--tone); font-weight: 600; white-space: nowrap }}
.e-word::before {{ content: ""; display: inline-block; width: .55em; height: .55em; border-radius: 50%;
  background: var(--tone); margin-right: .4em }}
.e-tiles {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9.3rem, 1fr)); gap: .6rem }}
.e-tile {{ border: 1px solid color-mix(in srgb, currentColor 18%, transparent); border-radius: 4px;
  border-left: 3px solid var(--tone, color-mix(in srgb, currentColor 18%, transparent)); padding: .55rem .75rem;
  min-width: 0 }}
.e-tile .name {{ font-size: .8rem; opacity: .75 }}
.e-tile .value {{ font-size: 1.35rem; font-weight: 600; line-height: 1.3; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere }}
.e-tile .note {{ font-size: .8rem; opacity: .75; overflow-wrap: anywhere }}
.e-list {{ display: flex; flex-direction: column; gap: .4rem }}
.e-item {{ border-left: 3px solid var(--tone); padding: .35rem .75rem;
  background: color-mix(in srgb, var(--tone) 9%, transparent); border-radius: 0 4px 4px 0; overflow-wrap: anywhere }}
.e-item .action {{ opacity: .8; font-size: .9rem }}
.e-bar {{ display: flex; height: .7rem; border-radius: 3px; overflow: hidden; margin: .3rem 0;
  background: color-mix(in srgb, currentColor 12%, transparent) }}
.e-bar i {{ background: var(--tone); border-right: 1px solid color-mix(in srgb, currentColor 5%, transparent) }}
.e-legend {{ display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .8rem }}
.e-steps {{ display: flex; flex-wrap: wrap; gap: .4rem; list-style: none; padding: 0 !important;
  margin: .2rem 0 .6rem !important }}
.e-steps li {{ flex: 1 1 8rem; border-top: 3px solid var(--tone); padding: .35rem 0 0; margin: 0 }}
.e-steps .note {{ font-size: .8rem; opacity: .8; overflow-wrap: anywhere }}
.e-table {{ width: 100%; border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums }}
.e-wide {{ overflow-x: auto }}
.e-table th {{ text-align: left; font-weight: 600; font-size: .8rem; opacity: .75; white-space: nowrap }}
.e-table th, .e-table td {{ padding: .28rem .8rem .28rem 0; vertical-align: top;
  border-bottom: 1px solid color-mix(in srgb, currentColor 14%, transparent) }}
.e-table td.number, .e-table th.number {{ text-align: right }}
.e-table td.long {{ min-width: 12rem; overflow-wrap: anywhere }}
button[data-variant="segmented_control"][aria-checked="true"] {{ color: light-dark(#0b5c8f, #a5d3f2) !important }}
@media (max-width: 800px) {{ .stMainBlockContainer {{ padding: 4.25rem 1rem 4rem }} }}
</style>"""
