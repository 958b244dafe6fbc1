"""How many random inputs a fuzz test draws: few in every run, 2,000 and more by MEDADAPT_FUZZ=2000."""

import os

EXAMPLES = int(os.environ.get("MEDADAPT_FUZZ", "200"))
