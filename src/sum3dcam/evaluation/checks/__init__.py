"""Whether an artefact's maps can be believed: do they follow its weights, does its score follow what they light up?"""
