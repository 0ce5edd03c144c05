"""From candidate to champion: the comparison, the gate's rule, the sheet that a person signs, and the move itself."""
