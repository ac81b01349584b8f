"""The report of an artifact: its static part as data, and one offline HTML file with pictures."""

from nmc.runtime.report.core_map import core_map_svg
from nmc.runtime.report.page import render_report
from nmc.runtime.report.static import static_report

__all__ = ["core_map_svg", "render_report", "static_report"]
