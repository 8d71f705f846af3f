"""ru-DALL-E (Shonenkov et al. 2021, github.com/ai-forever/ru-dalle)."""
