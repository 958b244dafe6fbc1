"""The arms of `evidence`: who learns and is judged, by which networks, how they are trained, what they forecast.

Assembly like the stages: it joins the rooms `imaging` and `learning`, and gives `assessing` what it judges.
"""
